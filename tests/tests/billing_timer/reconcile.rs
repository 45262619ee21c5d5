//! `billing-timer reconcile`: finds nothing wrong with what the services store, and each thing that somebody else did.

mod run;
mod volume;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use callpulse_tests::eventually::eventually;
use callpulse_tests::process::built;
use callpulse_tests::stack::StackBuilder;
use contract::wire::fact::{EndReason, Settled, Tick};
use contract::wire::subject;
use contract::{CallId, Fact, FactKind, Timestamp};

use self::run::{GRACE_MS, reconcile, reconcile_with, run};
use crate::bench::{Bench, SOON, ago, clock, parties};

#[tokio::test]
async fn what_the_services_store_is_clean_and_what_others_do_to_it_is_told() -> Result<()> {
    let mut bench = Bench::start(200).await?;
    let connected_at = Timestamp::now();
    for call in ["ended", "over", "running"] {
        bench.connect(call, connected_at).await?;
        bench.expect_tick(call, 4).await?;
    }
    bench.end("ended", Timestamp::now(), Some(connected_at)).await?;
    // Its RTP had died before the last ticks.
    bench.end("over", connected_at.plus_millis(500), None).await?;
    bench.end("never", Timestamp::now(), None).await?;
    let mut billed = 0;
    for call in ["ended", "over", "never"] {
        billed += bench.settled(call).await?["billedMinutes"]
            .as_u64()
            .context("no bill")?;
    }
    // On a busy machine the running call's ticks may be later than the grace: they come, and then nothing differs.
    let clean = eventually("a clean report", SOON, async || {
        let clean = reconcile(&bench, &[]).await?;
        clean.check_clean()?;
        Ok(clean)
    })
    .await?;
    ensure!(
        clean.summary["calls"] == 4 && clean.summary["connected"] == 3,
        "{}",
        clean.summary
    );
    ensure!(
        clean.summary["settled"] == 3 && clean.summary["running"] == 1,
        "{}",
        clean.summary
    );
    ensure!(clean.summary["billedMinutes"] == billed, "{}", clean.summary);

    // Nobody settles or ticks these but us.
    bench.end("running", Timestamp::now(), Some(connected_at)).await?;
    bench.settled("running").await?;
    bench.timer().kill()?;
    for minute in [1, 2] {
        store(&bench, tick("ended", minute, connected_at, 200)).await?;
    }
    let began = ago(10_000);
    for call in ["dear", "gap", "unsettled"] {
        bench.connect(call, began).await?;
        for minute in [1, 2, 3].into_iter().filter(|minute| call != "gap" || *minute != 2) {
            store(&bench, tick(call, minute, began, 200)).await?;
        }
        bench.end(call, began.plus_millis(700), Some(began)).await?;
    }
    store(&bench, settled("dear", began, 700, 3, 4)).await?;
    store(&bench, settled("gap", began, 700, 3, 3)).await?;
    let bad: CallId = "bad".parse()?;
    let subject = subject::fact(&bad, FactKind::Tick);
    bench.nats.jetstream.publish(subject, "rubbish".into()).await?.await?;
    let spoilt = reconcile(&bench, &[]).await?;
    ensure!(spoilt.code == 1, "{}: {}", spoilt.code, spoilt.log);
    let expected = [
        ("bad", "unreadable"),
        ("dear", "settlement"),
        ("ended", "tick_doubled"),
        ("ended", "tick_doubled"),
        ("gap", "tick_missing"),
        ("unsettled", "not_settled"),
    ];
    ensure!(spoilt.told() == expected, "{:?}", spoilt.differences);
    ensure!(spoilt.summary["differences"]["tick_doubled"] == 2, "{}", spoilt.summary);
    let dear = spoilt
        .differences
        .iter()
        .find(|difference| difference["callId"] == "dear");
    ensure!(
        dear.is_some_and(|dear| dear["expected"] == "billedMinutes 3" && dear["found"] == "4"),
        "{dear:?}"
    );
    // Before all of it there was nothing.
    let before = connected_at.to_string();
    reconcile(&bench, &["--to", &before]).await?.check_clean()
}

#[tokio::test]
async fn a_message_that_was_parked_is_told() -> Result<()> {
    let bench = Bench::start(60_000).await?;
    let bad: CallId = "bad".parse()?;
    let subject = subject::fact(&bad, FactKind::RtpDetected);
    bench.nats.jetstream.publish(subject, "rubbish".into()).await?.await?;
    eventually("the message being parked", SOON, async || {
        let parked = bench.metric("callpulse_billing_parked_total", "").await?;
        ensure!(parked > 0.0);
        Ok(())
    })
    .await?;
    let told = reconcile(&bench, &[]).await?;
    ensure!(
        told.told() == [("bad", "parked"), ("bad", "unreadable")],
        "{:?}",
        told.differences
    );
    ensure!(
        told.differences
            .iter()
            .all(|difference| difference["sequences"] == serde_json::json!([1])),
        "{:?}",
        told.differences
    );
    Ok(())
}

#[tokio::test]
async fn calls_that_began_before_the_reading_are_known_from_their_own_facts() -> Result<()> {
    let bench = Bench::with(60_000, StackBuilder::default().timers(0)).await?;
    let began = ago(600_000);
    bench.connect("c1", began).await?;
    for minute in 1..=3 {
        store(&bench, tick("c1", minute, began, 60_000)).await?;
    }
    // Reading begins the longest call's duration and the grace before the window, which is after those.
    let longest_ms = 1_000;
    let from = Timestamp::now().plus_millis(longest_ms + GRACE_MS + 10);
    clock(from).await?;
    store(&bench, tick("c1", 4, began, 60_000)).await?;
    bench.end("c1", began.plus_millis(250_000), Some(began)).await?;
    store(&bench, settled("c1", began, 250_000, 4, 4)).await?;
    let from = from.to_string();
    let longest = [("max_call_duration_ms", longest_ms.to_string())];
    let told = reconcile_with(&bench, &["--from", &from], longest).await?;
    told.check_clean()?;
    ensure!(
        told.summary["ticksStored"] == 4 && told.summary["facts"] == 3,
        "{}",
        told.summary
    );
    Ok(())
}

#[tokio::test]
async fn nothing_is_said_of_what_could_not_be_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("reconcile.log");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(built("billing-timer")?);
    command
        .arg("reconcile")
        .env("BILLING_TIMER__NATS__URL", format!("nats://{free}"));
    let away = run(&mut command, &log).await?;
    ensure!(away.code == 3 && away.summary.is_null(), "{}: {}", away.code, away.log);
    for wrong in [["--from", "yesterday"], ["--to", "1970-01-01"], ["--grace", "90"]] {
        let mut command = Command::new(built("billing-timer")?);
        command.arg("reconcile").args(wrong).args(["--from", "2026-01-01"]);
        let run = run(&mut command, &log).await?;
        ensure!(run.code == 2, "{wrong:?}: {}", run.code);
    }
    Ok(())
}

/// As whoever has the right to and no guard: a service with a bug, or an operator.
async fn store(bench: &Bench, fact: Fact) -> Result<()> {
    let stored = bench
        .nats
        .jetstream
        .publish(fact.subject(), fact.encode()?)
        .await?
        .await;
    Ok(stored.map(drop)?)
}

fn tick(call: &str, minute: u32, connected_at: Timestamp, interval_ms: u64) -> Fact {
    Tick {
        parties: parties(call),
        minute,
        at: connected_at.plus_millis(u64::from(minute) * interval_ms),
        connected_at,
    }
    .into()
}

fn settled(call: &str, connected_at: Timestamp, duration_ms: u64, ticks: u32, billed_minutes: u32) -> Fact {
    Settled {
        parties: parties(call),
        connected_at: Some(connected_at),
        ended_at: connected_at.plus_millis(duration_ms),
        duration_ms,
        ticks,
        over_ticks: 0,
        billed_minutes,
        reason: EndReason::Hangup,
    }
    .into()
}
