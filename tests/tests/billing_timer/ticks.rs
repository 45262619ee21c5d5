//! The running of minutes.

use anyhow::{Context, Result, ensure};
use callpulse_tests::eventually::eventually;
use callpulse_tests::stack::StackBuilder;
use contract::jetstream::batch::Entry;
use contract::jetstream::request;
use contract::wire::command::{CallClosed, Terminate};
use contract::wire::fact::{EndReason, Ended};
use contract::wire::subject;
use contract::{Party, PublishCondition, Timestamp, TraceParent};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::bench::{Bench, SOON, ago, clock, ended, parties, rtp_detected};

#[tokio::test]
async fn minutes_are_stored_when_they_are_due_and_then_told_to_both() -> Result<()> {
    let bench = Bench::start(200).await?;
    let mut told = Vec::new();
    for party in [Party::User("u_c1".parse()?), Party::Otomo("o_c1".parse()?)] {
        told.push(bench.reader.client().subscribe(subject::notices_to(&party)).await?);
    }
    bench.reader.client().flush().await?;
    let watch = bench.reader.watch().await?;
    let connected_at = Timestamp::now();
    bench.connect("c1", connected_at).await?;
    for minute in 1..=4u64 {
        let tick = watch.expect("c1", "tick", SOON).await?;
        ensure!(tick.payload["minute"] == minute);
    }
    let ended_at = connected_at.plus_millis(4 * 200 + 50);
    clock(ended_at).await?;
    bench.end("c1", ended_at, Some(connected_at)).await?;
    let settled = bench.settled("c1").await?;
    ensure!(
        (&settled["ticks"], &settled["billedMinutes"]) == (&4.into(), &4.into()),
        "{settled}"
    );
    ensure!(
        settled["durationMs"] == 850 && settled["reason"] == "hangup",
        "{settled}"
    );
    bench.check_ticks("c1", connected_at).await?;

    for notices in &mut told {
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
        let rest = async {
            while let Some(notice) = notices.next().await {
                let notice: Value = serde_json::from_slice(&notice.payload)?;
                // A fifth minute may have been due before the end was known.
                if notice["type"] != "tick" {
                    return Ok(notice);
                }
            }
            anyhow::bail!("closed")
        };
        let notice = timeout(SOON, rest).await??;
        ensure!(
            notice["type"] == "call_ended" && notice["payload"]["billedMinutes"] == 4,
            "{notice}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_call_keeps_the_interval_it_began_with() -> Result<()> {
    let mut bench = Bench::start(60_000).await?;
    let connected_at = ago(150_000);
    bench.connect("c1", connected_at).await?;
    bench.expect_tick("c1", 2).await?;
    // Somebody changes the setting while the call runs: stored ticks say what its minute is.
    bench.timer().kill()?;
    let first = bench.stack.timers.remove(0);
    let settings = [
        "nats.url",
        "nats.user",
        "nats_password",
        "ops.listen",
        "instance_id",
        "intake.ack_wait_ms",
    ];
    let mut settings: callpulse_tests::process::Settings = settings
        .iter()
        .map(|key| ((*key).to_owned(), first.setting(key).unwrap_or_default().to_owned()))
        .collect();
    settings.insert("tick_interval_ms".to_owned(), "1000".to_owned());
    let logs = bench.stack.folder().to_owned();
    let mut second = callpulse_tests::process::Service::start("billing-timer", "changed", settings, &logs).await?;
    second.ready().await?;
    bench.stack.timers.push(second);
    bench.connect("c2", ago(5_500)).await?;
    bench.expect_tick("c2", 5).await?;
    ensure!(bench.check_ticks("c1", connected_at).await? == 2);
    bench
        .end("c1", connected_at.plus_millis(130_000), Some(connected_at))
        .await?;
    let settled = bench.settled("c1").await?;
    ensure!(settled["ticks"] == 2 && settled["billedMinutes"] == 2, "{settled}");
    Ok(())
}

#[tokio::test]
async fn two_timers_on_the_same_calls_store_each_minute_once() -> Result<()> {
    let bench = Bench::with(100, StackBuilder::default().timers(2)).await?;
    let connected_at = Timestamp::now();
    let calls: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    for call in &calls {
        bench.connect(call, connected_at).await?;
    }
    let ended_at = connected_at.plus_millis(2_050);
    clock(ended_at).await?;
    for call in &calls {
        bench.end(call, ended_at, Some(connected_at)).await?;
    }
    for call in &calls {
        let settled = bench.settled(call).await?;
        ensure!(settled["ticks"] == 20 && settled["billedMinutes"] == 20, "{settled}");
        ensure!(bench.check_ticks(call, connected_at).await? >= 20);
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_lasts_too_long_is_asked_to_end_until_it_does() -> Result<()> {
    let bench = Bench::with(
        500,
        StackBuilder::default().set("billing-timer", "max_call_duration_ms", 1_000),
    )
    .await?;
    let mut requests = bench.nats.client.subscribe(subject::ALL_TERMINATE).await?;
    bench.nats.client.flush().await?;
    let connected_at = Timestamp::now();
    bench.connect("c1", connected_at).await?;
    let first = timeout(SOON, requests.next()).await?.context("closed")?;
    ensure!(Timestamp::now() >= connected_at.plus_millis(1_000), "too early");
    ensure!(subject::parse_terminate(&first.subject) == Some("c1".parse()?));
    let asked: Terminate = serde_json::from_slice(&first.payload)?;
    ensure!(
        asked.reason == EndReason::MaxDuration && asked.by == "billing-timer",
        "{asked:?}"
    );
    // The first request stays without an answer: it is asked again.
    let second = timeout(SOON, requests.next()).await?.context("closed")?;
    let ended_at = Timestamp::now();
    let fact = Ended {
        reason: EndReason::MaxDuration,
        ..ended("c1", ended_at, Some(connected_at))
    };
    bench
        .facts
        .publish(&fact.into(), PublishCondition::First, TraceParent::generate())
        .await?;
    let closed = CallClosed {
        ended_at: Some(ended_at),
        connected_at: Some(connected_at),
    };
    request::answer(&bench.nats.client, &second, &Ok(closed)).await;
    let settled = bench.settled("c1").await?;
    ensure!(settled["reason"] == "max_duration", "{settled}");
    Ok(())
}

#[tokio::test]
async fn ticks_due_together_go_in_batches_and_each_is_stored_once() -> Result<()> {
    const CALLS: usize = 1_500;
    let bench = Bench::start(60_000).await?;
    // All are due at one moment, far enough off for the book to be filled by then.
    let due = Timestamp::now().plus_millis(15_000);
    let connected_at = Timestamp::from_millis(due.as_millis() - 60_000).unwrap();
    let calls: Vec<String> = (0..CALLS).map(|number| format!("c{number}")).collect();
    let entries: Vec<Entry> = calls
        .iter()
        .map(|call| Entry {
            fact: rtp_detected(call, connected_at).into(),
            guard: PublishCondition::First,
            trace: TraceParent::generate(),
        })
        .collect();
    for entries in entries.chunks(1_000) {
        bench.facts.publish_batch(entries).await?;
    }
    eventually("all ticks", SOON * 2, async || {
        let stored = bench.metric("callpulse_billing_ticks_total", "").await?;
        ensure!(stored >= 1_500.0, "{stored} are stored");
        Ok(())
    })
    .await?;
    let mut minutes: Vec<String> = Vec::new();
    for fact in bench.reader.all().await?.into_iter().filter(|fact| fact.name == "tick") {
        ensure!(
            fact.payload["minute"] == 1 && fact.text("at")? == due.to_string(),
            "{:?}",
            fact.payload
        );
        ensure!(fact.taken_in_at.timestamp_millis() >= due.as_millis(), "early");
        minutes.push(fact.call_id);
    }
    minutes.sort_unstable();
    let mut expected = calls.clone();
    expected.sort_unstable();
    ensure!(minutes == expected, "{} ticks for {CALLS} calls", minutes.len());
    let batches = bench.metric("callpulse_billing_batches_total", "stored").await?;
    ensure!(batches <= 200.0, "{batches} batches");
    ensure!(
        parties("c0")
            == bench
                .book
                .get(&"c0".parse()?)
                .await?
                .context("not on the book")?
                .value
                .parties
    );
    Ok(())
}
