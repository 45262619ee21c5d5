//! Ends a call, for another team: `terminate CALL_ID`, as the user `wallet`.
//!
//! NATS_URL, NATS_USER and NATS_PASSWORD come from the environment.

#![allow(clippy::print_stdout, reason = "its result")]

use std::env::{args, var};

use async_nats::ConnectOptions;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let user = var("NATS_USER")?;
    let options = ConnectOptions::with_user_and_password(user.clone(), var("NATS_PASSWORD")?);
    let client = options.connect(var("NATS_URL")?).await?;
    let call = args().nth(1).ok_or("usage: terminate CALL_ID")?;
    let command = json!({ "by": user }).to_string();
    let answer = client
        .request(format!("cmd.call.{call}.terminate"), command.into())
        .await?;
    if let Some(refusal) = answer
        .headers
        .as_ref()
        .and_then(|headers| headers.get("Nats-Service-Error"))
    {
        return Err(refusal.as_str().into());
    }
    println!("{}", String::from_utf8_lossy(&answer.payload));
    Ok(())
}
