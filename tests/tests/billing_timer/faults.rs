//! Kills, outages and deletions lose no minute and store none twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::pull;
use callpulse_tests::wait::eventually;
use contract::jetstream::parking;
use contract::jetstream::storage::{CALLS, PARKED};
use contract::samples::ago;
use contract::wire::subject;
use contract::{CallId, FactKind, Timestamp};

use crate::fixture::{Fixture, SOON, wall_clock_reaches};

const CONSUMER: &str = "billing-timer";

#[tokio::test]
async fn a_restarted_timer_makes_up_missed_ticks() -> Result<()> {
    let mut fixture = Fixture::start(100).await?;
    let connected_at = Timestamp::now();
    fixture.connect("c1", connected_at).await?;
    for round in 1..=5u64 {
        // Killed at a random point between two ticks, and away for several ticks.
        fixture.expect_tick("c1", round * 10 - 5).await?;
        fixture.timer().kill()?;
        wall_clock_reaches(connected_at.plus_millis(round * 1_000)).await?;
        fixture.timer().restart().await?;
    }
    fixture.expect_tick("c1", 55).await?;
    let ended_at = Timestamp::now();
    fixture.end("c1", ended_at, Some(connected_at)).await?;
    let settled = fixture.settled("c1").await?;
    let full = ended_at.millis_since(connected_at) / 100;
    ensure!(
        settled["ticks"] == full && settled["billedMinutes"] == full,
        "{settled}"
    );
    ensure!(fixture.check_ticks("c1", connected_at).await? >= full);
    Ok(())
}

#[tokio::test]
async fn a_call_that_ended_while_no_timer_ran_is_ticked_up_to_its_end() -> Result<()> {
    let mut fixture = Fixture::start(1_000).await?;
    fixture.connect("running", ago(0)).await?;
    eventually("an entry", SOON, async || {
        fixture
            .active_billing
            .get(&"running".parse()?)
            .await?
            .map(drop)
            .context("not there")
    })
    .await?;
    fixture.timer().kill()?;
    let connected_at = ago(100_000);
    fixture.connect("c1", connected_at).await?;
    fixture
        .end("c1", connected_at.plus_millis(10_000), Some(connected_at))
        .await?;
    fixture.timer().restart().await?;
    let settled = fixture.settled("c1").await?;
    // The tenth tick is due exactly at the end, and counts.
    ensure!(
        settled["ticks"] == 10 && settled.get("overTicks").is_none(),
        "{settled}"
    );
    ensure!(fixture.check_ticks("c1", connected_at).await? == 10);
    Ok(())
}

#[tokio::test]
async fn ticks_continue_after_the_server_was_killed() -> Result<()> {
    let mut fixture = Fixture::start(200).await?;
    let connected_at = Timestamp::now();
    for call in ["c1", "c2", "c3"] {
        fixture.connect(call, connected_at).await?;
        fixture.expect_tick(call, 2).await?;
    }
    for round in 1..=2u64 {
        fixture.stack.nats.kill()?;
        eventually("not ready", SOON, async || {
            let (status, _) = fixture.stack.timers[0].ops("/readyz").await?;
            ensure!(status == 503, "{status}");
            Ok(())
        })
        .await?;
        wall_clock_reaches(Timestamp::now().plus_millis(700)).await?;
        fixture.stack.nats.restart().await?;
        fixture.timer().ready().await?;
        let due = Timestamp::now().millis_since(connected_at) / 200;
        fixture.expect_tick("c1", due + round).await?;
        // A new call is noticed at once, not only after missed heartbeats of the consumers.
        let (call, connected_at) = (format!("new{round}"), Timestamp::now());
        fixture.connect(&call, connected_at).await?;
        fixture.expect_tick(&call, 1).await?;
        let tick = fixture.ticks(&call).await?.remove(0);
        let late = tick.server_time.timestamp_millis() - tick.time("at")?.timestamp_millis();
        ensure!(late < 5_000, "{late} ms late");
    }
    let ended_at = Timestamp::now();
    for call in ["c1", "c2", "c3"] {
        fixture.end(call, ended_at, Some(connected_at)).await?;
    }
    let full = ended_at.millis_since(connected_at) / 200;
    for call in ["c1", "c2", "c3"] {
        let settled = fixture.settled(call).await?;
        ensure!(settled["ticks"] == full, "{full} are full: {settled}");
        ensure!(fixture.check_ticks(call, connected_at).await? >= full);
    }
    Ok(())
}

#[tokio::test]
async fn an_undecodable_fact_is_parked_and_the_next_call_is_ticked() -> Result<()> {
    let fixture = Fixture::start(200).await?;
    let bad: CallId = "bad".parse()?;
    let detected = subject::fact(&bad, FactKind::RtpDetected);
    for (subject, payload) in [
        (detected.clone(), "not JSON"),
        (detected.clone(), r#"{"callId":"other"}"#),
        (subject::fact(&bad, FactKind::Ended), r#"{"callId":"bad"}"#),
    ] {
        fixture
            .contract
            .publish_unconditionally(subject, payload.into())
            .await?;
    }
    let connected_at = Timestamp::now();
    fixture.connect("good", connected_at).await?;
    fixture.expect_tick("good", 2).await?;
    let mut parked = fixture.contract.nats.jetstream.get_stream(PARKED).await?;
    eventually("three parked messages", SOON, async || {
        let messages = parked.info().await?.state.messages;
        ensure!(messages == 3, "{messages}");
        Ok(())
    })
    .await?;
    let message = parked
        .get_last_raw_message_by_subject(&subject::parked(CONSUMER, &detected))
        .await?;
    ensure!(message.payload == r#"{"callId":"other"}"#);
    for header in [parking::REASON, parking::ORIGINAL_SUBJECT, parking::ORIGINAL_SEQUENCE] {
        ensure!(message.headers.get(header).is_some(), "no {header}");
    }
    // The counter is incremented after the message is stored.
    let timer = &fixture.stack.timers[0];
    timer
        .metric_becomes("callpulse_billing_parked_total", SOON, |parked| parked == 3.0)
        .await?;
    let calls = fixture.contract.nats.jetstream.get_stream(CALLS).await?;
    let consumer = calls.get_consumer::<pull::Config>(CONSUMER).await;
    let mut consumer = consumer.map_err(anyhow::Error::from_boxed)?;
    eventually("no pending acknowledgements", SOON, async || {
        let pending = consumer.info().await?.num_ack_pending;
        ensure!(pending == 0, "{pending}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_consumer_is_created_again() -> Result<()> {
    let mut fixture = Fixture::start(200).await?;
    let over = ago(1_000);
    fixture.connect("over", over).await?;
    fixture.end("over", over.plus_millis(500), Some(over)).await?;
    let settled = fixture.settled("over").await?;
    // Ticks may be stored before the end is.
    let ticks = 2 + settled["overTicks"].as_u64().unwrap_or(0);
    let running = Timestamp::now();
    fixture.connect("running", running).await?;
    fixture.expect_tick("running", 1).await?;

    let calls = fixture.contract.nats.jetstream.get_stream(CALLS).await?;
    calls.delete_consumer(CONSUMER).await?;
    let connected_at = Timestamp::now();
    fixture.connect("later", connected_at).await?;
    fixture.expect_tick("later", 2).await?;
    fixture.timer().ready().await?;
    // All facts were redelivered without effect.
    ensure!(fixture.settled("over").await? == settled);
    ensure!(fixture.check_ticks("over", over).await? == ticks);
    fixture.check_ticks("running", running).await?;
    fixture.check_ticks("later", connected_at).await?;
    Ok(())
}

#[tokio::test]
async fn sigterm_stops_cleanly_and_quickly() -> Result<()> {
    let mut fixture = Fixture::start(100).await?;
    let connected_at = Timestamp::now();
    fixture.connect("c1", connected_at).await?;
    fixture.expect_tick("c1", 3).await?;
    let status = fixture.timer().terminate(Duration::from_secs(5)).await?;
    ensure!(status.success(), "{status}");
    fixture.check_ticks("c1", connected_at).await?;
    Ok(())
}
