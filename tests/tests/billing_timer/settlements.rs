//! Settlements for facts in every order.

use std::time::Duration;

use anyhow::{Result, ensure};
use callpulse_tests::servers::stack::StackBuilder;
use contract::samples::{ago, ended, rtp_detected};
use contract::wire::subject;
use contract::{Fact, Party, Timestamp};
use tokio::time::timeout;

use crate::fixture::{Fixture, SOON};

#[tokio::test]
async fn an_unconnected_call_is_settled_with_zeros_and_without_a_notice() -> Result<()> {
    let fixture = Fixture::start(60_000).await?;
    let mut notices = fixture
        .reader
        .client()
        .subscribe(subject::notices_to(&Party::User("u_c1".parse()?)))
        .await?;
    fixture.reader.client().flush().await?;
    fixture.end("c1", Timestamp::now(), None).await?;
    let settled = fixture.settled("c1").await?;
    ensure!(
        settled["connectedAt"].is_null() && settled["durationMs"] == 0,
        "{settled}"
    );
    ensure!(settled["ticks"] == 0 && settled["billedMinutes"] == 0, "{settled}");
    // Notices precede the removal of the entry, so a notice would have arrived by the time this flush returns.
    fixture.reader.client().flush().await?;
    ensure!(
        timeout(Duration::ZERO, futures::StreamExt::next(&mut notices))
            .await
            .is_err(),
        "the service that stored the end sends the notice"
    );
    Ok(())
}

#[tokio::test]
async fn ticks_beyond_an_end_in_the_past_are_reported_and_not_billed() -> Result<()> {
    let fixture = Fixture::start(100).await?;
    let connected_at = Timestamp::now();
    fixture.connect("c1", connected_at).await?;
    fixture.expect_tick("c1", 6).await?;
    // RTP stopped long before the loss was detected.
    let ended_at = connected_at.plus_millis(250);
    fixture.end("c1", ended_at, Some(connected_at)).await?;
    let settled = fixture.settled("c1").await?;
    let stored = fixture.check_ticks("c1", connected_at).await?;
    ensure!(settled["ticks"] == 2 && settled["billedMinutes"] == 2, "{settled}");
    ensure!(
        settled["overTicks"] == stored - 2 && stored >= 6,
        "{stored} stored: {settled}"
    );
    let all = fixture.reader.of_call("c1").await?;
    ensure!(
        all.last().is_some_and(|fact| fact.name == "settled"),
        "a fact follows the settlement"
    );
    Ok(())
}

#[tokio::test]
async fn started_minutes_are_billed_with_charge_start() -> Result<()> {
    let fixture = Fixture::with(60_000, StackBuilder::default().set("billing-timer", "charge", "start")).await?;
    let connected_at = ago(200_000);
    for (call, duration) in [("at_once", 0), ("begun", 1), ("whole", 60_000), ("more", 60_001)] {
        fixture.connect(call, connected_at).await?;
        fixture
            .end(call, connected_at.plus_millis(duration), Some(connected_at))
            .await?;
    }
    for (call, ticks, billed) in [("at_once", 0, 0), ("begun", 0, 1), ("whole", 1, 1), ("more", 1, 2)] {
        let settled = fixture.settled(call).await?;
        ensure!(
            settled["ticks"] == ticks && settled["billedMinutes"] == billed,
            "{settled}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_end_without_connected_at_is_settled_by_the_stored_rtp_detected() -> Result<()> {
    let mut fixture = Fixture::start(1_000).await?;
    fixture.timer().kill()?;
    let connected_at = ago(10_000);
    fixture.connect("c1", connected_at).await?;
    fixture.end("c1", connected_at.plus_millis(3_500), None).await?;
    // A call whose facts are stored in reverse order.
    fixture
        .end("c2", connected_at.plus_millis(3_500), Some(connected_at))
        .await?;
    fixture.connect("c2", connected_at).await?;
    fixture.timer().restart().await?;
    for call in ["c1", "c2"] {
        let settled = fixture.settled(call).await?;
        ensure!(
            settled["durationMs"] == 3_500 && settled["billedMinutes"] == 3,
            "{settled}"
        );
        ensure!(fixture.check_ticks(call, connected_at).await? == 3);
    }
    Ok(())
}

#[tokio::test]
async fn repeated_facts_change_nothing() -> Result<()> {
    let fixture = Fixture::start(1_000).await?;
    let connected_at = ago(5_000);
    let ended_at = connected_at.plus_millis(2_500);
    fixture.connect("c1", connected_at).await?;
    fixture.end("c1", ended_at, Some(connected_at)).await?;
    let settled = fixture.settled("c1").await?;
    // Stored again without a publish condition, as a faulty publisher would.
    let twice: [Fact; 2] = [
        rtp_detected("c1", connected_at).into(),
        ended("c1", ended_at, Some(connected_at)).into(),
    ];
    for fact in &twice {
        fixture
            .contract
            .publish_unconditionally(fact.subject(), fact.encode()?)
            .await?;
    }
    let consumed = r#"callpulse_billing_facts_total{outcome="settled_before"}"#;
    fixture.stack.timers[0]
        .metric_becomes(consumed, SOON, |seen| seen >= 2.0)
        .await?;
    ensure!(fixture.settled("c1").await? == settled);
    // Ticks may be stored before the end is.
    let over = settled["overTicks"].as_u64().unwrap_or(0);
    ensure!(fixture.check_ticks("c1", connected_at).await? == 2 + over);
    ensure!(
        fixture.active_billing.get(&"c1".parse()?).await?.is_none(),
        "the entry exists again"
    );
    Ok(())
}

#[tokio::test]
async fn an_end_from_a_clock_that_is_ahead_does_not_delay_the_settlement() -> Result<()> {
    let fixture = Fixture::start(60_000).await?;
    let connected_at = Timestamp::now();
    fixture.connect("c1", connected_at).await?;
    fixture
        .end("c1", connected_at.plus_millis(200_000), Some(connected_at))
        .await?;
    // Long before the clock of this machine shows that time.
    let settled = fixture.settled("c1").await?;
    ensure!(settled["ticks"] == 3 && settled["billedMinutes"] == 3, "{settled}");
    ensure!(fixture.ticks("c1").await?.len() == 3);
    Ok(())
}
