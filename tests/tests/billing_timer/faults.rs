//! Whatever is killed, cut off or deleted: no minute is lost, none is stored twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::pull;
use callpulse_tests::eventually::eventually;
use contract::jetstream::parking;
use contract::jetstream::storage::{CALLS, PARKED};
use contract::wire::subject;
use contract::{CallId, FactKind, Timestamp};

use crate::bench::{Bench, SOON, ago, clock};

const CONSUMER: &str = "billing-timer";

#[tokio::test]
async fn a_killed_timer_makes_up_what_was_due_meanwhile() -> Result<()> {
    let mut bench = Bench::start(100).await?;
    let connected_at = Timestamp::now();
    bench.connect("c1", connected_at).await?;
    for round in 1..=5u64 {
        // Killed between two ticks, wherever that is; away for several.
        bench.expect_tick("c1", round * 10 - 5).await?;
        bench.timer().kill()?;
        clock(connected_at.plus_millis(round * 1_000)).await?;
        bench.timer().restart().await?;
    }
    bench.expect_tick("c1", 55).await?;
    let ended_at = Timestamp::now();
    bench.end("c1", ended_at, Some(connected_at)).await?;
    let settled = bench.settled("c1").await?;
    let full = ended_at.millis_since(connected_at) / 100;
    ensure!(
        settled["ticks"] == full && settled["billedMinutes"] == full,
        "{settled}"
    );
    ensure!(bench.check_ticks("c1", connected_at).await? >= full);
    Ok(())
}

#[tokio::test]
async fn what_ended_while_nobody_ticked_is_made_up_to_its_end_and_no_further() -> Result<()> {
    let mut bench = Bench::start(1_000).await?;
    bench.connect("on_the_book", ago(0)).await?;
    eventually("an entry", SOON, async || {
        bench
            .book
            .get(&"on_the_book".parse()?)
            .await?
            .map(drop)
            .context("not there")
    })
    .await?;
    bench.timer().kill()?;
    let connected_at = ago(100_000);
    bench.connect("c1", connected_at).await?;
    bench
        .end("c1", connected_at.plus_millis(10_000), Some(connected_at))
        .await?;
    bench.timer().restart().await?;
    let settled = bench.settled("c1").await?;
    // The tenth is due at the very end, and counts.
    ensure!(
        settled["ticks"] == 10 && settled.get("overTicks").is_none(),
        "{settled}"
    );
    ensure!(bench.check_ticks("c1", connected_at).await? == 10);
    Ok(())
}

#[tokio::test]
async fn minutes_go_on_after_the_server_was_killed() -> Result<()> {
    let mut bench = Bench::start(200).await?;
    let connected_at = Timestamp::now();
    for call in ["c1", "c2", "c3"] {
        bench.connect(call, connected_at).await?;
        bench.expect_tick(call, 2).await?;
    }
    for round in 1..=2u64 {
        bench.stack.nats.kill()?;
        eventually("not ready", SOON, async || {
            let (status, _) = bench.stack.timers[0].ops("/readyz").await?;
            ensure!(status == 503, "{status}");
            Ok(())
        })
        .await?;
        clock(Timestamp::now().plus_millis(700)).await?;
        bench.stack.nats.restart().await?;
        bench.timer().ready().await?;
        let due = Timestamp::now().millis_since(connected_at) / 200;
        bench.expect_tick("c1", due + round).await?;
        // A call that begins now is noticed soon, not after the consumers' heartbeats were missed.
        let (call, connected_at) = (format!("new{round}"), Timestamp::now());
        bench.connect(&call, connected_at).await?;
        bench.expect_tick(&call, 1).await?;
        let tick = bench.ticks(&call).await?.remove(0);
        let late = tick.taken_in_at.timestamp_millis() - tick.time("at")?.timestamp_millis();
        ensure!(late < 5_000, "{late} ms late");
    }
    let ended_at = Timestamp::now();
    for call in ["c1", "c2", "c3"] {
        bench.end(call, ended_at, Some(connected_at)).await?;
    }
    let full = ended_at.millis_since(connected_at) / 200;
    for call in ["c1", "c2", "c3"] {
        let settled = bench.settled(call).await?;
        ensure!(settled["ticks"] == full, "{full} are full: {settled}");
        ensure!(bench.check_ticks(call, connected_at).await? >= full);
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_and_the_next_call_is_ticked() -> Result<()> {
    let bench = Bench::start(200).await?;
    let bad: CallId = "bad".parse()?;
    let detected = subject::fact(&bad, FactKind::RtpDetected);
    for (subject, payload) in [
        (detected.clone(), "not JSON"),
        (detected.clone(), r#"{"callId":"other"}"#),
        (subject::fact(&bad, FactKind::Ended), r#"{"callId":"bad"}"#),
    ] {
        bench.nats.jetstream.publish(subject, payload.into()).await?.await?;
    }
    let connected_at = Timestamp::now();
    bench.connect("good", connected_at).await?;
    bench.expect_tick("good", 2).await?;
    let mut parked = bench.nats.jetstream.get_stream(PARKED).await?;
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
    // The count comes after the message, so it is waited for too.
    eventually("the count", SOON, async || {
        let count = bench.metric("callpulse_billing_parked_total", "").await?;
        ensure!((count - 3.0).abs() < 0.1, "{count}");
        Ok(())
    })
    .await?;
    let calls = bench.nats.jetstream.get_stream(CALLS).await?;
    let consumer = calls.get_consumer::<pull::Config>(CONSUMER).await;
    let mut consumer = consumer.map_err(anyhow::Error::from_boxed)?;
    eventually("nothing to be delivered again", SOON, async || {
        let pending = consumer.info().await?.num_ack_pending;
        ensure!(pending == 0, "{pending}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_consumer_is_made_anew() -> Result<()> {
    let mut bench = Bench::start(200).await?;
    let over = ago(1_000);
    bench.connect("over", over).await?;
    bench.end("over", over.plus_millis(500), Some(over)).await?;
    let record = bench.settled("over").await?;
    let running = Timestamp::now();
    bench.connect("running", running).await?;
    bench.expect_tick("running", 1).await?;

    let calls = bench.nats.jetstream.get_stream(CALLS).await?;
    calls.delete_consumer(CONSUMER).await?;
    let connected_at = Timestamp::now();
    bench.connect("later", connected_at).await?;
    bench.expect_tick("later", 2).await?;
    bench.timer().ready().await?;
    // All facts came again, and nothing came of it.
    ensure!(bench.settled("over").await? == record);
    ensure!(bench.check_ticks("over", over).await? == 2);
    bench.check_ticks("running", running).await?;
    bench.check_ticks("later", connected_at).await?;
    Ok(())
}

#[tokio::test]
async fn an_asked_stop_is_clean_and_quick() -> Result<()> {
    let mut bench = Bench::start(100).await?;
    let connected_at = Timestamp::now();
    bench.connect("c1", connected_at).await?;
    bench.expect_tick("c1", 3).await?;
    let status = bench.timer().terminate(Duration::from_secs(5)).await?;
    ensure!(status.success(), "{status}");
    bench.check_ticks("c1", connected_at).await?;
    Ok(())
}
