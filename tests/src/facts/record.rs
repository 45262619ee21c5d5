//! The stored facts of a settled call, checked: every minute is stored once, at its due time, and none beyond the end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::facts::reader::{Fact, Facts};

/// The stored facts of a settled call.
#[derive(Debug)]
pub struct Record {
    /// `connectedAt`.
    pub connected_at: DateTime<Utc>,
    /// The fact `ended`.
    pub ended: Fact,
    /// The ticks, in order.
    pub ticks: Vec<Fact>,
    /// The fact `settled`.
    pub settled: Fact,
}

impl Record {
    /// Waits until a connected call is settled, and checks its facts. `interval_ms` is the length of a minute.
    ///
    /// # Errors
    /// At the deadline, or when a fact is missing, doubled or wrong.
    pub async fn checked(facts: &Facts, call_id: &str, interval_ms: i64, within: Duration) -> Result<Self> {
        facts.expect(call_id, "settled", within).await?;
        let stored = facts.of_call(call_id).await?;
        let connected_at = only(&stored, "rtp_detected")?.time("connectedAt")?;
        let (ended, settled) = (only(&stored, "ended")?.clone(), only(&stored, "settled")?.clone());
        let ticks: Vec<Fact> = stored.into_iter().filter(|fact| fact.name == "tick").collect();
        for (number, tick) in (1..).zip(&ticks) {
            ensure!(
                tick.payload.get("minute") == Some(&json!(number)),
                "minute {number} is {tick:?}"
            );
            let due = connected_at + TimeDelta::milliseconds(number * interval_ms);
            ensure!(tick.time("at")? == due, "minute {number} was due at {due}: {tick:?}");
        }
        let minutes = (ended.time("endedAt")? - connected_at).num_milliseconds() / interval_ms;
        let over = settled
            .payload
            .get("overTicks")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        ensure!(
            i64::try_from(ticks.len())? == minutes + over,
            "{minutes} minutes and {over} beyond the end, but {} ticks",
            ticks.len()
        );
        for billed in ["ticks", "billedMinutes"] {
            let billed = settled.payload.get(billed);
            ensure!(
                billed == Some(&json!(minutes)),
                "{minutes} minutes, but {}",
                settled.payload
            );
        }
        Ok(Self {
            connected_at,
            ended,
            ticks,
            settled,
        })
    }

    /// The longest delay from the due time of a tick to its storage.
    ///
    /// # Errors
    /// When a tick has no time.
    pub fn longest_delay(&self) -> Result<TimeDelta> {
        let delays = self.ticks.iter().map(|tick| Ok(tick.server_time - tick.time("at")?));
        let delays = delays.collect::<Result<Vec<_>>>()?;
        Ok(delays.into_iter().max().unwrap_or_default())
    }
}

fn only<'a>(stored: &'a [Fact], name: &str) -> Result<&'a Fact> {
    let mut found = stored.iter().filter(|fact| fact.name == name);
    let first = found.next().with_context(|| format!("no {name}"))?;
    ensure!(found.next().is_none(), "more than one {name}");
    Ok(first)
}
