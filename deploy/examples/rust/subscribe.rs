//! The facts of calls, for another team. NATS_URL, NATS_USER and NATS_PASSWORD come from the environment.
//!
//! ```text
//! subscribe live       facts as they are published
//! subscribe durable    every stored fact once, and after a restart from where it stopped
//! ```

#![allow(clippy::print_stdout, reason = "its result")]

use std::collections::HashSet;
use std::env::{args, var};

use async_nats::jetstream::{self, consumer::PullConsumer};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt;

type Result = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    let user = var("NATS_USER")?;
    let options = ConnectOptions::with_user_and_password(user.clone(), var("NATS_PASSWORD")?);
    let client = options.connect(var("NATS_URL")?).await?;
    match args().nth(1).as_deref() {
        Some("live") => live(client).await,
        Some("durable") => durable(client, &user).await,
        _ => Err("usage: subscribe live | durable".into()),
    }
}

async fn live(client: Client) -> Result {
    let mut facts = client.subscribe("call.*.*").await?;
    while let Some(fact) = facts.next().await {
        println!("{} {}", fact.subject, String::from_utf8_lossy(&fact.payload));
    }
    Ok(())
}

async fn durable(client: Client, user: &str) -> Result {
    // Your account's part of JetStream's API.
    let jetstream = jetstream::with_prefix(client, "CALLPULSE.API");
    let stream = jetstream.get_stream("CALLS").await?;
    let consumer: PullConsumer = stream.get_consumer(user).await?;
    let mut facts = consumer.messages().await?;
    // A fact may be delivered again: make `ce-id` a unique column of your table.
    let mut seen = HashSet::new();
    while let Some(fact) = facts.next().await.transpose()? {
        let event = fact.headers.as_ref().and_then(|headers| headers.get("ce-id"));
        if seen.insert(event.map(ToString::to_string)) {
            println!("{} {}", fact.subject, String::from_utf8_lossy(&fact.payload));
        }
        fact.ack().await?;
    }
    Ok(())
}
