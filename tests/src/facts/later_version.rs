//! A call of a later version: its facts have kinds, fields and reasons that do not exist yet. Every reader gets this stream.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::facts::contract_client::ContractClient;

/// The call's identifier.
pub const CALL: &str = "call_later";
/// The reason of its end.
pub const REASON: &str = "eclipse";
/// Facts of kinds that do not exist.
pub const KINDS: u64 = 5;
/// Fields that do not exist, of facts that do.
pub const FIELDS: u64 = 9;
/// Facts with the reason.
pub const REASONS: u64 = 2;

/// The kinds and payloads in stream order.
///
/// # Errors
/// None, unless the file is not JSON.
pub fn facts() -> Result<Vec<(String, Value)>> {
    let mut facts: Vec<(String, Value)> = serde_json::from_str(include_str!("later_version/call.json"))?;
    for (_, payload) in &mut facts {
        if let Some(fields) = payload.as_object_mut() {
            fields.insert("callId".to_owned(), json!(CALL));
            fields.insert("userId".to_owned(), json!("user_later"));
            fields.insert("otomoId".to_owned(), json!("otomo_later"));
        }
    }
    Ok(facts)
}

/// Stores the facts up to the first one of a kind, which must exist, or all of them.
///
/// # Errors
/// When the stream rejects one.
pub async fn store(client: &ContractClient, until: Option<&str>) -> Result<()> {
    let facts = facts()?;
    let count = match until {
        Some(until) => {
            facts
                .iter()
                .position(|(kind, _)| kind == until)
                .context("no such fact")?
                + 1
        }
        None => facts.len(),
    };
    for (kind, payload) in facts.into_iter().take(count) {
        let payload = serde_json::to_vec(&payload)?.into();
        client
            .publish_unconditionally(format!("call.{CALL}.{kind}"), payload)
            .await?;
    }
    Ok(())
}
