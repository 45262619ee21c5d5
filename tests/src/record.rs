//! A settled call's record, checked: every minute is there once, when it was due, and none beyond the end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::facts::{Fact, Facts};

/// What is stored of a call that is over.
#[derive(Debug)]
pub struct Record {
    /// When it began.
    pub connected_at: DateTime<Utc>,
    /// How it ended.
    pub ended: Fact,
    /// Its minutes, in order.
    pub ticks: Vec<Fact>,
    /// What is billed.
    pub settled: Fact,
}

impl Record {
    /// Waits until a call that had begun is settled, and checks its record. `interval_ms` is the length of a minute.
    ///
    /// # Errors
    /// When it is not settled in time, or anything of it is missing, doubled, or not as it should be.
    pub async fn whole(facts: &Facts, call_id: &str, interval_ms: i64, within: Duration) -> Result<Self> {
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

    /// How late the latest of its minutes was taken in: what an outage cost.
    ///
    /// # Errors
    /// When a tick has no time.
    pub fn longest_delay(&self) -> Result<TimeDelta> {
        let delays = self.ticks.iter().map(|tick| Ok(tick.taken_in_at - tick.time("at")?));
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
