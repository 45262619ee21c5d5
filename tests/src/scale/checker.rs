//! Compares every stored tick and settlement with the facts from which they follow.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use contract::Timestamp;

use super::load::PlannedCall;
use crate::facts::reader::{Fact, Facts};

/// A tick as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredTick {
    /// When it was due, in milliseconds.
    pub due_ms: i64,
    /// The server's time stamp, in milliseconds.
    pub stored_ms: i64,
}

impl StoredTick {
    /// How late it was, in milliseconds.
    pub fn late_ms(self) -> i64 {
        self.stored_ms - self.due_ms
    }
}

struct Found {
    connected_at: Timestamp,
    ticks: u64,
    is_settled: bool,
}

/// Reads the whole stream and returns all ticks.
///
/// Each call must have the ticks 1, 2, …, each with its due time and none early, and one settlement that follows from the
/// connection, the end and the stored ticks.
pub async fn check(
    facts: &Facts,
    calls: &[PlannedCall],
    interval_ms: u64,
    ended_at: Timestamp,
) -> Result<Vec<StoredTick>> {
    let found = calls.iter().map(|call| {
        let found = Found {
            connected_at: call.connected_at,
            ticks: 0,
            is_settled: false,
        };
        (call.id.as_str(), found)
    });
    let mut found: HashMap<&str, Found> = found.collect();
    let mut ticks = Vec::new();
    facts
        .for_each(|fact| {
            let call = found.get_mut(fact.call_id.as_str());
            let call = call.with_context(|| format!("{} is not of this run", fact.call_id))?;
            match fact.name.as_str() {
                "tick" => ticks.push(tick(&fact, call, interval_ms)?),
                "settled" => settled(&fact, call, interval_ms, ended_at)?,
                "rtp_detected" | "ended" => {}
                other => bail!("{} has a fact {other}", fact.call_id),
            }
            Ok(())
        })
        .await?;
    let unsettled = found.values().filter(|call| !call.is_settled).count();
    ensure!(unsettled == 0, "{unsettled} calls are not settled");
    Ok(ticks)
}

fn tick(fact: &Fact, call: &mut Found, interval_ms: u64) -> Result<StoredTick> {
    call.ticks += 1;
    let (minute, due) = (call.ticks, call.connected_at.plus_millis(call.ticks * interval_ms));
    ensure!(
        !call.is_settled,
        "minute {minute} of {} follows the settlement",
        fact.call_id
    );
    ensure!(
        fact.payload.get("minute").is_some_and(|stored| *stored == minute)
            && fact.text("at")? == due.to_string()
            && fact.text("connectedAt")? == call.connected_at.to_string(),
        "{}: {} in place of minute {minute}",
        fact.call_id,
        fact.payload
    );
    let stored = StoredTick {
        due_ms: due.as_millis(),
        stored_ms: fact.server_time.timestamp_millis(),
    };
    ensure!(stored.late_ms() >= 0, "minute {minute} of {} is early", fact.call_id);
    Ok(stored)
}

fn settled(fact: &Fact, call: &mut Found, interval_ms: u64, ended_at: Timestamp) -> Result<()> {
    let (id, settled) = (&fact.call_id, &fact.payload);
    ensure!(!call.is_settled, "{id} is settled twice");
    call.is_settled = true;
    let duration = ended_at.millis_since(call.connected_at);
    let full = duration / interval_ms;
    ensure!(
        fact.text("connectedAt")? == call.connected_at.to_string()
            && fact.text("endedAt")? == ended_at.to_string()
            && settled["durationMs"] == duration
            && settled["ticks"] == full
            && settled["billedMinutes"] == full
            // Its facts have no terms, and no silence.
            && settled["billedMs"] == duration
            && settled["silentMs"] == serde_json::json!({ "user": 0, "otomo": 0 })
            && settled.get("untilMs").or(settled.get("terms")).is_none(),
        "{id} lasted {duration} ms: {settled}"
    );
    ensure!(
        call.ticks == full + settled["overTicks"].as_u64().unwrap_or(0),
        "{} ticks of {id} are stored: {settled}",
        call.ticks
    );
    Ok(())
}
