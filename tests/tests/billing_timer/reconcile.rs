//! `billing-timer reconcile` reports no difference for facts stored by the services, and each manipulation by others.

pub(crate) mod run;
mod volume;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::process::built;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::wait::eventually;
use contract::samples::{ago, settled, tick};
use contract::wire::fact::Settled;
use contract::wire::subject;
use contract::{CallId, Fact, FactKind, Timestamp};

use self::run::{GRACE_MS, reconcile, reconcile_with, run};
use crate::fixture::{Fixture, SOON, wall_clock_reaches};

#[tokio::test]
async fn reconcile_reports_no_difference_for_real_facts_and_each_manipulation() -> Result<()> {
    let mut fixture = Fixture::start(200).await?;
    let connected_at = Timestamp::now();
    for call in ["ended", "over", "running"] {
        fixture.connect(call, connected_at).await?;
        fixture.expect_tick(call, 4).await?;
    }
    fixture.end("ended", Timestamp::now(), Some(connected_at)).await?;
    // Its RTP stopped before the last ticks.
    fixture.end("over", connected_at.plus_millis(500), None).await?;
    fixture.end("never", Timestamp::now(), None).await?;
    let mut billed = 0;
    for call in ["ended", "over", "never"] {
        billed += fixture.settled(call).await?["billedMinutes"]
            .as_u64()
            .context("no bill")?;
    }
    // On a busy machine the running call's ticks may be later than the grace period. Once they are stored, nothing differs.
    let clean = eventually("a clean report", SOON, async || {
        let clean = reconcile(&fixture, &[]).await?;
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

    // The timer is stopped, so only the test ticks and settles these calls.
    fixture.end("running", Timestamp::now(), Some(connected_at)).await?;
    fixture.settled("running").await?;
    fixture.timer().kill()?;
    for minute in [1, 2] {
        store(&fixture, tick("ended", minute, connected_at, 200)).await?;
    }
    let began = ago(10_000);
    for call in ["dear", "gap", "unsettled"] {
        fixture.connect(call, began).await?;
        for minute in [1, 2, 3].into_iter().filter(|minute| call != "gap" || *minute != 2) {
            store(&fixture, tick(call, minute, began, 200)).await?;
        }
        fixture.end(call, began.plus_millis(700), Some(began)).await?;
    }
    let dear = Settled {
        billed_minutes: 4,
        ..settled("dear", began, 700, 3)
    };
    store(&fixture, dear).await?;
    store(&fixture, settled("gap", began, 700, 3)).await?;
    let bad: CallId = "bad".parse()?;
    let subject = subject::fact(&bad, FactKind::Tick);
    fixture
        .contract
        .publish_unconditionally(subject, "rubbish".into())
        .await?;
    let manipulated = reconcile(&fixture, &[]).await?;
    ensure!(manipulated.code == 1, "{}: {}", manipulated.code, manipulated.log);
    let expected = [
        ("bad", "unreadable"),
        ("dear", "settlement"),
        ("ended", "tick_doubled"),
        ("ended", "tick_doubled"),
        ("gap", "tick_missing"),
        ("unsettled", "not_settled"),
    ];
    ensure!(manipulated.kinds() == expected, "{:?}", manipulated.differences);
    ensure!(
        manipulated.summary["differences"]["tick_doubled"] == 2,
        "{}",
        manipulated.summary
    );
    let dear = manipulated
        .differences
        .iter()
        .find(|difference| difference["callId"] == "dear");
    ensure!(
        dear.is_some_and(|dear| dear["expected"] == "billedMinutes 3" && dear["found"] == "4"),
        "{dear:?}"
    );
    // The window before all facts is clean.
    let before = connected_at.to_string();
    reconcile(&fixture, &["--to", &before]).await?.check_clean()
}

#[tokio::test]
async fn a_parked_message_is_reported() -> Result<()> {
    let fixture = Fixture::start(60_000).await?;
    let bad: CallId = "bad".parse()?;
    let subject = subject::fact(&bad, FactKind::RtpDetected);
    fixture
        .contract
        .publish_unconditionally(subject, "rubbish".into())
        .await?;
    let timer = &fixture.stack.timers[0];
    timer
        .metric_becomes("callpulse_billing_parked_total", SOON, |parked| parked > 0.0)
        .await?;
    let report = reconcile(&fixture, &[]).await?;
    ensure!(
        report.kinds() == [("bad", "parked"), ("bad", "unreadable")],
        "{:?}",
        report.differences
    );
    ensure!(
        report
            .differences
            .iter()
            .all(|difference| difference["sequences"] == serde_json::json!([1])),
        "{:?}",
        report.differences
    );
    Ok(())
}

#[tokio::test]
async fn calls_that_began_before_the_window_are_reconstructed_from_their_facts() -> Result<()> {
    let fixture = Fixture::with(60_000, StackBuilder::default().timers(0)).await?;
    let began = ago(600_000);
    fixture.connect("c1", began).await?;
    for minute in 1..=3 {
        store(&fixture, tick("c1", minute, began, 60_000)).await?;
    }
    // Reading starts before the window by the maximum duration and the grace period, which is after these facts.
    let longest_ms = 1_000;
    let from = Timestamp::now().plus_millis(longest_ms + GRACE_MS + 10);
    wall_clock_reaches(from).await?;
    store(&fixture, tick("c1", 4, began, 60_000)).await?;
    fixture.end("c1", began.plus_millis(250_000), Some(began)).await?;
    store(&fixture, settled("c1", began, 250_000, 4)).await?;
    let from = from.to_string();
    let longest = [("max_call_duration_ms", longest_ms.to_string())];
    let report = reconcile_with(&fixture, &["--from", &from], longest).await?;
    report.check_clean()?;
    ensure!(
        report.summary["ticksStored"] == 4 && report.summary["facts"] == 3,
        "{}",
        report.summary
    );
    Ok(())
}

#[tokio::test]
async fn an_unreachable_server_and_invalid_options_have_their_own_exit_codes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("reconcile.log");
    // A port that is probably still free.
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

/// Stores a fact without a publish condition, as a faulty service or an operator could.
async fn store(fixture: &Fixture, fact: impl Into<Fact>) -> Result<()> {
    let fact = fact.into();
    let payload = fact.encode()?;
    fixture.contract.publish_unconditionally(fact.subject(), payload).await
}
