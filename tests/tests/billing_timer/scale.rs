//! Many active calls with injected facts: a killed timer is on time again after its restart, and every settlement follows from
//! the stored facts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::builders::{ended, rtp_detected};
use callpulse_tests::facts::reader;
use callpulse_tests::wait::eventually;
use contract::jetstream::batch::Entry;
use contract::{Fact, PublishCondition, Timestamp, TraceParent};

use crate::fixture::{Fixture, wall_clock_reaches};

const INTERVAL_MS: u64 = 10_000;
/// Ticks due later than this after the restart must be on time.
const RECOVERY_MS: u64 = 10_000;
/// On time, on a machine that runs other tests in parallel.
const MAX_LATE_MS: i64 = 5_000;

#[tokio::test]
async fn a_killed_timer_with_10_000_calls_is_on_time_again() -> Result<()> {
    kill_with_active_calls(10_000).await
}

#[allow(clippy::print_stdout, reason = "a run prints its figures")]
async fn kill_with_active_calls(calls: usize) -> Result<()> {
    let mut fixture = Fixture::start(INTERVAL_MS).await?;
    let timeout = Duration::from_secs(60) + Duration::from_millis(5) * u32::try_from(calls)?;
    // Due times are spread over the interval.
    let started_at = Timestamp::now();
    let connected: Vec<(String, Timestamp)> = (0..calls)
        .map(|number| {
            let offset = u64::try_from(number).unwrap_or(0) * INTERVAL_MS / u64::try_from(calls).unwrap_or(1);
            (format!("c{number}"), started_at.plus_millis(offset))
        })
        .collect();
    publish(
        &fixture,
        connected.iter().map(|(call, at)| rtp_detected(call, *at).into()),
    )
    .await?;
    count(
        &fixture,
        "callpulse_billing_facts_total",
        "rtp_detected",
        calls,
        timeout,
    )
    .await?;
    fixture.timer().kill()?;
    fixture.timer().restart().await?;
    let restarted_at = Timestamp::now();
    wall_clock_reaches(restarted_at.plus_millis(RECOVERY_MS + 2 * INTERVAL_MS)).await?;
    let ended_at = Timestamp::now();
    publish(
        &fixture,
        connected
            .iter()
            .map(|(call, at)| ended(call, ended_at, Some(*at)).into()),
    )
    .await?;
    let since = Instant::now();
    count(&fixture, "callpulse_billing_settlements_total", "", calls, timeout).await?;
    println!("{calls} calls settled in {:?}", since.elapsed());

    let mut by_call: HashMap<String, Vec<reader::Fact>> = HashMap::new();
    for fact in fixture.reader.all().await? {
        by_call.entry(fact.call_id.clone()).or_default().push(fact);
    }
    let (mut latest, mut latest_after_recovery) = (0, 0);
    for (call, connected_at) in &connected {
        let facts = by_call.get(call).context("no facts")?;
        let ticks: Vec<&reader::Fact> = facts.iter().filter(|fact| fact.name == "tick").collect();
        for (minute, tick) in (1u64..).zip(&ticks) {
            let due = connected_at.plus_millis(minute * INTERVAL_MS);
            ensure!(
                tick.payload["minute"] == minute && tick.text("at")? == due.to_string(),
                "{call}: {:?} in place of minute {minute}",
                tick.payload
            );
            let late = tick.server_time.timestamp_millis() - due.as_millis();
            ensure!(late >= 0, "minute {minute} of {call} is early");
            latest = latest.max(late);
            if due >= restarted_at.plus_millis(RECOVERY_MS) {
                latest_after_recovery = latest_after_recovery.max(late);
            }
        }
        let settled: Vec<&reader::Fact> = facts.iter().filter(|fact| fact.name == "settled").collect();
        ensure!(settled.len() == 1, "{call} is settled {} times", settled.len());
        let (settled, duration) = (&settled[0].payload, ended_at.millis_since(*connected_at));
        let (full, stored) = (duration / INTERVAL_MS, u64::try_from(ticks.len())?);
        ensure!(
            settled["durationMs"] == duration && settled["ticks"] == full && settled["billedMinutes"] == full,
            "{call} lasted {duration} ms: {settled}"
        );
        ensure!(
            stored == full + settled["overTicks"].as_u64().unwrap_or(0),
            "{stored} ticks of {call} are stored: {settled}"
        );
    }
    println!("latest tick: {latest} ms late, {latest_after_recovery} ms after the recovery");
    ensure!(
        latest_after_recovery < MAX_LATE_MS,
        "{latest_after_recovery} ms late more than {RECOVERY_MS} ms after the restart"
    );
    Ok(())
}

async fn publish(fixture: &Fixture, facts: impl Iterator<Item = Fact>) -> Result<()> {
    let entries: Vec<Entry> = facts
        .map(|fact| Entry {
            fact,
            condition: PublishCondition::First,
            trace: TraceParent::generate(),
        })
        .collect();
    for entries in entries.chunks(1_000) {
        fixture.contract.facts.publish_batch(entries).await?;
    }
    Ok(())
}

async fn count(fixture: &Fixture, metric: &str, label: &str, expected: usize, timeout: Duration) -> Result<()> {
    let expected = f64::from(u32::try_from(expected)?);
    eventually(&format!("{expected} of {metric}"), timeout, async || {
        let counted = fixture.metric(metric, label).await?;
        ensure!(counted >= expected, "{counted}");
        Ok(())
    })
    .await
}
