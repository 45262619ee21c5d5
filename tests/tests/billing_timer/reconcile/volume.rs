//! Memory use does not grow with the number of facts.

use std::time::Instant;

use anyhow::{Result, ensure};
use callpulse_tests::servers::stack::StackBuilder;
use contract::jetstream::batch::Entry;
use contract::samples::{ago, ended, requested, rtp_detected, settled, tick};
use contract::{Fact, FactStore, PublishCondition, Timestamp, TraceParent};
use futures::future::try_join_all;

use super::run::reconcile;
use super::store;
use crate::fixture::Fixture;

/// The most memory that `reconcile` may use, in bytes, for a stream of any length.
const MAX_MEMORY_BYTES: u64 = 64 << 20;

#[tokio::test]
async fn a_hundred_thousand_facts_need_bounded_memory() -> Result<()> {
    volume(1).await
}

/// Run manually: `… --ignored --nocapture a_million`.
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_million_facts_need_no_more_memory() -> Result<()> {
    volume(10).await
}

/// Stores rounds of a hundred thousand facts, a thousand calls each, and one call with a missing tick.
#[allow(clippy::print_stderr, reason = "a manual run prints its figures")]
async fn volume(rounds: u32) -> Result<()> {
    const CALLS: u32 = 1_000;
    const MINUTES: u32 = 96;
    let fixture = Fixture::with(60_000, StackBuilder::default().timers(0)).await?;
    let began = ago(u64::from(MINUTES) * 60_000 + 30_000);
    let begun = Instant::now();
    for round in 0..rounds {
        // In two halves, so that the server stores one while the other is sent.
        let halves = (0..2).map(|half| {
            let names: Vec<String> = (0..CALLS / 2).map(|call| format!("c{round}_{half}_{call}")).collect();
            let facts = fixture.contract.facts.clone();
            async move { whole_calls(&facts, &names, began, MINUTES).await }
        });
        try_join_all(halves).await?;
    }
    let stored = begun.elapsed();
    // A last call whose second tick is missing.
    fixture.connect("gap", began).await?;
    store(&fixture, tick("gap", 1, began, 60_000)).await?;
    fixture.end("gap", began.plus_millis(120_000), None).await?;
    store(&fixture, settled("gap", began, 120_000, 2)).await?;

    let report = reconcile(&fixture, &[]).await?;
    let facts = u64::from(rounds * CALLS * (MINUTES + 4)) + 4;
    let per_second = facts * 1_000 / u64::try_from(report.took.as_millis())?.max(1);
    eprintln!(
        "{facts} facts: stored in {stored:.1?}, reconciled in {:.1?} ({per_second} a second), peak {} B\n{}",
        report.took, report.peak_bytes, report.log
    );
    ensure!(
        report.kinds() == [("gap", "tick_missing")],
        "{:?} {}",
        report.differences,
        report.log
    );
    ensure!(
        report.summary["facts"] == facts && report.summary["billedMinutes"] == rounds * CALLS * MINUTES + 2,
        "{}",
        report.summary
    );
    ensure!(
        (1..MAX_MEMORY_BYTES).contains(&report.peak_bytes),
        "{} B for {facts} facts",
        report.peak_bytes
    );
    Ok(())
}

/// Stores calls minute by minute, from their request to their settlement, each minute of all of them as one batch.
async fn whole_calls(facts: &FactStore, names: &[String], began: Timestamp, minutes: u32) -> Result<()> {
    let duration_ms = u64::from(minutes) * 60_000;
    let mut ticks: Vec<PublishCondition> = vec![PublishCondition::First; names.len()];
    batch(
        facts,
        names
            .iter()
            .map(|name| (PublishCondition::First, requested(name, began).into())),
    )
    .await?;
    batch(
        facts,
        names
            .iter()
            .map(|name| (PublishCondition::First, rtp_detected(name, began).into())),
    )
    .await?;
    for minute in 1..=minutes {
        let due = names.iter().zip(&ticks);
        let due = due.map(|(name, condition)| (*condition, tick(name, minute, began, 60_000).into()));
        let sequences = batch(facts, due).await?;
        ticks = sequences
            .into_iter()
            .map(PublishCondition::CallUnchangedSince)
            .collect();
    }
    let over = began.plus_millis(duration_ms);
    let ends = names
        .iter()
        .map(|name| (PublishCondition::First, ended(name, over, Some(began)).into()));
    batch(facts, ends).await?;
    let bills = names.iter().map(|name| {
        (
            PublishCondition::First,
            settled(name, began, duration_ms, minutes).into(),
        )
    });
    batch(facts, bills).await.map(drop)
}

async fn batch(facts: &FactStore, entries: impl Iterator<Item = (PublishCondition, Fact)>) -> Result<Vec<u64>> {
    let trace = TraceParent::generate();
    let entries: Vec<Entry> = entries
        .map(|(condition, fact)| Entry { fact, condition, trace })
        .collect();
    Ok(facts.publish_batch(&entries).await?)
}
