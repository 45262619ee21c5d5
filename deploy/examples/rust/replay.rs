//! The stored facts since a time, for another team: `replay 2026-11-26T09:00:00Z`.
//!
//! NATS_URL, NATS_USER and NATS_PASSWORD come from the environment.

#![allow(clippy::print_stdout, reason = "its result")]

use std::env::{args, var};

use async_nats::{ConnectOptions, Message};
use futures::StreamExt;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let options = ConnectOptions::with_user_and_password(var("NATS_USER")?, var("NATS_PASSWORD")?);
    let client = options.connect(var("NATS_URL")?).await?;
    let since = args().nth(1).ok_or("usage: replay TIME")?;
    let mut start = ("start_time", json!(since));
    // Batched direct gets (NATS ADR-31) need no consumer.
    loop {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await?;
        let request = json!({ start.0: start.1, "next_by_subj": "call.*.*", "batch": 256 }).to_string();
        client
            .publish_with_reply("CALLPULSE.API.DIRECT.GET.CALLS", inbox, request.into())
            .await?;
        let end = loop {
            let fact = answers.next().await.ok_or("disconnected")?;
            let Some(subject) = header(&fact, "Nats-Subject") else {
                break fact;
            };
            println!("{subject} {}", String::from_utf8_lossy(&fact.payload));
            let sequence: u64 = header(&fact, "Nats-Sequence").ok_or("no sequence")?.parse()?;
            start = ("seq", json!(sequence + 1));
        };
        if header(&end, "Nats-Num-Pending").is_none_or(|pending| pending == "0") {
            return Ok(());
        }
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    Some(message.headers.as_ref()?.get(name)?.as_str())
}
