//! What is owed, however the facts came.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::eventually::eventually;
use callpulse_tests::stack::StackBuilder;
use contract::wire::subject;
use contract::{Fact, Party, Timestamp};
use tokio::time::timeout;

use crate::bench::{Bench, ago, clock, ended, rtp_detected};

#[tokio::test]
async fn a_call_that_never_connected_is_settled_with_zeros_and_told_by_nobody_here() -> Result<()> {
    let bench = Bench::start(60_000).await?;
    let mut told = bench
        .reader
        .client()
        .subscribe(subject::notices_to(&Party::User("u_c1".parse()?)))
        .await?;
    bench.reader.client().flush().await?;
    bench.end("c1", Timestamp::now(), None).await?;
    let settled = bench.settled("c1").await?;
    ensure!(
        settled["connectedAt"].is_null() && settled["durationMs"] == 0,
        "{settled}"
    );
    ensure!(settled["ticks"] == 0 && settled["billedMinutes"] == 0, "{settled}");
    // Notices go out before the entry is off the book, so one would be here by the time that this comes back.
    bench.reader.client().flush().await?;
    ensure!(
        timeout(Duration::ZERO, futures::StreamExt::next(&mut told))
            .await
            .is_err(),
        "whoever ended it has told them"
    );
    Ok(())
}

#[tokio::test]
async fn ticks_beyond_an_end_that_lay_in_the_past_are_told_and_not_billed() -> Result<()> {
    let bench = Bench::start(100).await?;
    let connected_at = Timestamp::now();
    bench.connect("c1", connected_at).await?;
    bench.expect_tick("c1", 6).await?;
    // RTP had died long before it was noticed.
    let ended_at = connected_at.plus_millis(250);
    bench.end("c1", ended_at, Some(connected_at)).await?;
    let settled = bench.settled("c1").await?;
    let stored = bench.check_ticks("c1", connected_at).await?;
    ensure!(settled["ticks"] == 2 && settled["billedMinutes"] == 2, "{settled}");
    ensure!(
        settled["overTicks"] == stored - 2 && stored >= 6,
        "{stored} stored: {settled}"
    );
    let all = bench.reader.of_call("c1").await?;
    ensure!(
        all.last().is_some_and(|fact| fact.name == "settled"),
        "nothing comes after the record"
    );
    Ok(())
}

#[tokio::test]
async fn begun_minutes_are_charged_where_that_is_the_policy() -> Result<()> {
    let bench = Bench::with(60_000, StackBuilder::default().set("billing-timer", "charge", "start")).await?;
    let connected_at = ago(200_000);
    for (call, duration) in [("at_once", 0), ("begun", 1), ("whole", 60_000), ("more", 60_001)] {
        bench.connect(call, connected_at).await?;
        bench
            .end(call, connected_at.plus_millis(duration), Some(connected_at))
            .await?;
    }
    for (call, ticks, billed) in [("at_once", 0, 0), ("begun", 0, 1), ("whole", 1, 1), ("more", 1, 2)] {
        let settled = bench.settled(call).await?;
        ensure!(
            settled["ticks"] == ticks && settled["billedMinutes"] == billed,
            "{settled}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_end_that_does_not_know_of_the_beginning_is_settled_by_what_is_stored() -> Result<()> {
    let mut bench = Bench::start(1_000).await?;
    bench.timer().kill()?;
    let connected_at = ago(10_000);
    bench.connect("c1", connected_at).await?;
    bench.end("c1", connected_at.plus_millis(3_500), None).await?;
    // And one whose facts are stored in the other order.
    bench
        .end("c2", connected_at.plus_millis(3_500), Some(connected_at))
        .await?;
    bench.connect("c2", connected_at).await?;
    bench.timer().restart().await?;
    for call in ["c1", "c2"] {
        let settled = bench.settled(call).await?;
        ensure!(
            settled["durationMs"] == 3_500 && settled["billedMinutes"] == 3,
            "{settled}"
        );
        ensure!(bench.check_ticks(call, connected_at).await? == 3);
    }
    Ok(())
}

#[tokio::test]
async fn facts_that_come_twice_change_nothing() -> Result<()> {
    let bench = Bench::start(1_000).await?;
    let connected_at = ago(5_000);
    let ended_at = connected_at.plus_millis(2_500);
    bench.connect("c1", connected_at).await?;
    bench.end("c1", ended_at, Some(connected_at)).await?;
    let settled = bench.settled("c1").await?;
    // Stored once more, without the guard: as a publisher with a bug would.
    let twice: [Fact; 2] = [
        rtp_detected("c1", connected_at).into(),
        ended("c1", ended_at, Some(connected_at)).into(),
    ];
    for fact in &twice {
        bench
            .nats
            .jetstream
            .publish(fact.subject(), fact.encode()?)
            .await?
            .await?;
    }
    eventually("both seen", crate::bench::SOON, async || {
        let seen = bench.metric("callpulse_billing_facts_total", "settled_before").await?;
        ensure!(seen >= 2.0, "{seen}");
        Ok(())
    })
    .await?;
    ensure!(bench.settled("c1").await? == settled);
    ensure!(bench.check_ticks("c1", connected_at).await? == 2);
    ensure!(bench.book.get(&"c1".parse()?).await?.is_none(), "on the book again");
    Ok(())
}

#[tokio::test]
async fn an_end_by_a_clock_ahead_of_ours_bills_no_minute_before_its_time() -> Result<()> {
    let bench = Bench::start(500).await?;
    let connected_at = Timestamp::now();
    let ended_at = connected_at.plus_millis(1_600);
    bench.connect("c1", connected_at).await?;
    bench.end("c1", ended_at, Some(connected_at)).await?;
    let settled = bench.settled("c1").await?;
    ensure!(settled["ticks"] == 3, "{settled}");
    ensure!(bench.check_ticks("c1", connected_at).await? == 3);
    clock(ended_at)
        .await
        .context("the record may come as soon as the last minute is full")
}
