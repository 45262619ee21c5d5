//! Ticks of running calls.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::stack::StackBuilder;
use contract::jetstream::batch::Entry;
use contract::jetstream::request;
use contract::samples::{ago, ended, parties, rtp_detected};
use contract::wire::command::{CallClosed, Terminate};
use contract::wire::fact::{EndReason, Ended};
use contract::wire::subject;
use contract::{Party, PublishCondition, Timestamp, TraceParent};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::fixture::{Fixture, SOON, wall_clock_reaches};

#[tokio::test]
async fn ticks_are_stored_when_due_and_then_sent_to_both_parties() -> Result<()> {
    let fixture = Fixture::start(200).await?;
    let mut subscriptions = Vec::new();
    for party in [Party::User("u_c1".parse()?), Party::Otomo("o_c1".parse()?)] {
        subscriptions.push(fixture.reader.client().subscribe(subject::notices_to(&party)).await?);
    }
    fixture.reader.client().flush().await?;
    let watch = fixture.reader.watch().await?;
    let connected_at = Timestamp::now();
    fixture.connect("c1", connected_at).await?;
    for minute in 1..=4u64 {
        let tick = watch.expect("c1", "tick", SOON).await?;
        ensure!(tick.payload["minute"] == minute);
    }
    let ended_at = connected_at.plus_millis(4 * 200 + 50);
    wall_clock_reaches(ended_at).await?;
    fixture.end("c1", ended_at, Some(connected_at)).await?;
    let settled = fixture.settled("c1").await?;
    ensure!(
        (&settled["ticks"], &settled["billedMinutes"]) == (&4.into(), &4.into()),
        "{settled}"
    );
    ensure!(
        settled["durationMs"] == 850 && settled["reason"] == "hangup",
        "{settled}"
    );
    fixture.check_ticks("c1", connected_at).await?;

    for notices in &mut subscriptions {
        for minute in 1..=4u64 {
            let notice = timeout(SOON, notices.next()).await?.context("closed")?;
            let notice: Value = serde_json::from_slice(&notice.payload)?;
            ensure!(
                notice["type"] == "tick" && notice["payload"]["minute"] == minute,
                "{notice}"
            );
            ensure!(
                notice["payload"]["at"] == connected_at.plus_millis(minute * 200).to_string(),
                "{notice}"
            );
        }
        let next_other = async {
            while let Some(notice) = notices.next().await {
                let notice: Value = serde_json::from_slice(&notice.payload)?;
                // A fifth minute may have been due before the end was known.
                if notice["type"] != "tick" {
                    return Ok(notice);
                }
            }
            anyhow::bail!("closed")
        };
        let notice = timeout(SOON, next_other).await??;
        ensure!(
            notice["type"] == "call_ended" && notice["payload"]["billedMinutes"] == 4,
            "{notice}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_running_call_keeps_its_interval_when_the_setting_changes() -> Result<()> {
    let mut fixture = Fixture::start(60_000).await?;
    let connected_at = ago(150_000);
    fixture.connect("c1", connected_at).await?;
    fixture.expect_tick("c1", 2).await?;
    // The setting changes while the call runs. Its interval follows from the stored ticks.
    let timer = fixture.timer();
    timer.set("tick_interval_ms", 1_000);
    timer.restart().await?;
    timer.ready().await?;
    fixture.connect("c2", ago(5_500)).await?;
    fixture.expect_tick("c2", 5).await?;
    ensure!(fixture.check_ticks("c1", connected_at).await? == 2);
    fixture
        .end("c1", connected_at.plus_millis(130_000), Some(connected_at))
        .await?;
    let settled = fixture.settled("c1").await?;
    ensure!(settled["ticks"] == 2 && settled["billedMinutes"] == 2, "{settled}");
    Ok(())
}

#[tokio::test]
async fn two_timers_on_the_same_calls_store_each_minute_once() -> Result<()> {
    let fixture = Fixture::with(100, StackBuilder::default().timers(2)).await?;
    let connected_at = Timestamp::now();
    let calls: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    for call in &calls {
        fixture.connect(call, connected_at).await?;
    }
    let ended_at = connected_at.plus_millis(2_050);
    wall_clock_reaches(ended_at).await?;
    for call in &calls {
        fixture.end(call, ended_at, Some(connected_at)).await?;
    }
    for call in &calls {
        let settled = fixture.settled(call).await?;
        ensure!(settled["ticks"] == 20 && settled["billedMinutes"] == 20, "{settled}");
        ensure!(fixture.check_ticks(call, connected_at).await? >= 20);
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_call_at_its_maximum_duration_is_requested_until_it_ends() -> Result<()> {
    let fixture = Fixture::with(
        500,
        StackBuilder::default().set("billing-timer", "max_call_duration_ms", 1_000),
    )
    .await?;
    let mut requests = fixture.contract.nats.client.subscribe(subject::ALL_TERMINATE).await?;
    fixture.contract.nats.client.flush().await?;
    let connected_at = Timestamp::now();
    fixture.connect("c1", connected_at).await?;
    let first = timeout(SOON, requests.next()).await?.context("closed")?;
    ensure!(Timestamp::now() >= connected_at.plus_millis(1_000), "too early");
    ensure!(subject::parse_terminate(&first.subject) == Some("c1".parse()?));
    let request: Terminate = serde_json::from_slice(&first.payload)?;
    ensure!(
        request.reason == EndReason::MaxDuration && request.by == "billing-timer",
        "{request:?}"
    );
    // The first request gets no answer and is repeated.
    let second = timeout(SOON, requests.next()).await?.context("closed")?;
    let ended_at = Timestamp::now();
    let fact = Ended {
        reason: EndReason::MaxDuration,
        ..ended("c1", ended_at, Some(connected_at))
    };
    fixture
        .contract
        .facts
        .publish(&fact.into(), PublishCondition::First, TraceParent::generate())
        .await?;
    let closed = CallClosed {
        ended_at: Some(ended_at),
        connected_at: Some(connected_at),
    };
    request::reply(&fixture.contract.nats.client, &second, &Ok(closed)).await;
    let settled = fixture.settled("c1").await?;
    ensure!(settled["reason"] == "max_duration", "{settled}");
    Ok(())
}

#[tokio::test]
async fn ticks_due_together_are_batched_and_each_is_stored_once() -> Result<()> {
    const CALLS: usize = 1_500;
    let fixture = Fixture::start(60_000).await?;
    // All are due at one time, late enough for all entries to exist by then.
    let due = Timestamp::now().plus_millis(15_000);
    let connected_at = Timestamp::from_millis(due.as_millis() - 60_000).unwrap();
    let calls: Vec<String> = (0..CALLS).map(|number| format!("c{number}")).collect();
    let entries: Vec<Entry> = calls
        .iter()
        .map(|call| Entry {
            fact: rtp_detected(call, connected_at).into(),
            condition: PublishCondition::First,
            trace: TraceParent::generate(),
        })
        .collect();
    for entries in entries.chunks(1_000) {
        fixture.contract.facts.publish_batch(entries).await?;
    }
    let timer = &fixture.stack.timers[0];
    timer
        .metric_becomes("callpulse_billing_ticks_total", SOON * 2, |stored| stored >= 1_500.0)
        .await?;
    let mut minutes: Vec<String> = Vec::new();
    for fact in fixture
        .reader
        .all()
        .await?
        .into_iter()
        .filter(|fact| fact.name == "tick")
    {
        ensure!(
            fact.payload["minute"] == 1 && fact.text("at")? == due.to_string(),
            "{:?}",
            fact.payload
        );
        ensure!(fact.server_time.timestamp_millis() >= due.as_millis(), "early");
        minutes.push(fact.call_id);
    }
    minutes.sort_unstable();
    let mut expected = calls.clone();
    expected.sort_unstable();
    ensure!(minutes == expected, "{} ticks for {CALLS} calls", minutes.len());
    let batches = fixture
        .metric(r#"callpulse_billing_batches_total{outcome="stored"}"#)
        .await?;
    ensure!(batches <= 200.0, "{batches} batches");
    ensure!(
        parties("c0")
            == fixture
                .active_billing
                .get(&"c0".parse()?)
                .await?
                .context("no entry")?
                .value
                .parties
    );
    Ok(())
}

#[tokio::test]
async fn ticks_are_on_time_although_the_clock_of_the_media_worker_is_an_hour_off() -> Result<()> {
    let fixture = Fixture::start(1_000).await?;
    let mut connected = Vec::new();
    for (call, off_ms) in [("ahead", 3_600_000), ("behind", -3_600_000), ("stepped", 30_000)] {
        let now = Timestamp::now();
        let shown = Timestamp::from_millis(now.as_millis() + off_ms).context("no such time")?;
        let facts = fixture.contract.facts.observed(Instant::now());
        let fact = rtp_detected(call, shown).into();
        facts
            .publish(&fact, PublishCondition::First, TraceParent::generate())
            .await?;
        connected.push((call, shown, now));
    }
    for (call, shown, now) in connected {
        fixture.expect_tick(call, 3).await?;
        for (minute, tick) in (1..).zip(fixture.ticks(call).await?.iter().take(3)) {
            let due = shown.plus_millis(minute * 1_000);
            ensure!(tick.text("at")? == due.to_string(), "{call}: {:?}", tick.payload);
            let late_ms = tick.server_time.timestamp_millis() - now.plus_millis(minute * 1_000).as_millis();
            ensure!(
                (0..1_000).contains(&late_ms),
                "minute {minute} of {call} is {late_ms} ms late"
            );
        }
    }
    Ok(())
}
