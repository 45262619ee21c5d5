//! Atomic batches of facts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::jetstream::batch::{BatchError, Entry, MAX_BATCH};
use contract::jetstream::fact_store::PublishCondition;
use contract::samples::{at, settled, tick};
use contract::{Fact, FactKind, Outcome, TraceParent};
use futures::FutureExt;
use futures::future::join_all;
use tokio::time::timeout;

use crate::fixture::Fixture;

const SOON: Duration = Duration::from_secs(20);

fn entry(call: &str, minute: u32, condition: PublishCondition) -> Entry {
    Entry {
        fact: tick(call, minute, at(0), 60_000).into(),
        condition,
        trace: TraceParent::generate(),
    }
}

#[tokio::test]
async fn a_full_batch_is_stored_with_contiguous_sequences() -> Result<()> {
    let fixture = Fixture::start().await?;
    let calls: Vec<String> = (0..MAX_BATCH).map(|number| format!("c{number}")).collect();
    let first: Vec<Entry> = calls
        .iter()
        .map(|call| entry(call, 1, PublishCondition::First))
        .collect();
    let sequences = fixture.facts.publish_batch(&first).await?;
    ensure!(sequences.len() == MAX_BATCH && sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
    for index in [0, 1, 499, MAX_BATCH - 1] {
        let stored = fixture
            .facts
            .last(&calls[index].parse()?, FactKind::Tick)
            .await?
            .context("not stored")?;
        ensure!(
            stored.sequence == sequences[index] && stored.fact == first[index].fact,
            "{stored:?}"
        );
        ensure!(stored.trace == first[index].trace);
    }
    let second: Vec<Entry> = calls
        .iter()
        .zip(&sequences)
        .map(|(call, sequence)| entry(call, 2, PublishCondition::CallUnchangedSince(*sequence)))
        .collect();
    let next = fixture.facts.publish_batch(&second).await?;
    ensure!(next.first() > sequences.last());
    Ok(())
}

/// On one thread, so that the connection sends nothing while the batches of the busy callers fill its queue.
#[tokio::test]
async fn callers_that_are_busy_otherwise_keep_no_batch_back() -> Result<()> {
    let fixture = Fixture::start().await?;
    let batch = |prefix: &str| -> Vec<Entry> {
        let calls = (0..MAX_BATCH).map(|number| format!("{prefix}{number}"));
        calls.map(|call| entry(&call, 1, PublishCondition::First)).collect()
    };
    let batches = ["a", "b", "c"].map(batch);
    let mut busy: Vec<_> = batches
        .iter()
        .map(|batch| fixture.facts.publish_batch(batch).boxed())
        .collect();
    for publishing in &mut busy {
        ensure!(publishing.now_or_never().is_none());
    }
    let another = [entry("another", 1, PublishCondition::First)];
    timeout(SOON, fixture.facts.publish_batch(&another))
        .await
        .context("it waits for the others")??;
    for stored in join_all(busy).await {
        ensure!(stored?.len() == MAX_BATCH);
    }
    Ok(())
}

#[tokio::test]
async fn one_rejected_entry_rejects_the_whole_batch_at_any_position() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture
        .facts
        .publish_batch(&[entry("taken", 1, PublishCondition::First)])
        .await?;
    for bad in [0, 1, 9] {
        let batch: Vec<Entry> = (0..10)
            .map(|number| {
                if number == bad {
                    "taken".to_owned()
                } else {
                    format!("c{number}")
                }
            })
            .map(|call| entry(&call, 1, PublishCondition::First))
            .collect();
        let rejected = fixture.facts.publish_batch(&batch).await;
        ensure!(matches!(rejected, Err(BatchError::Rejected(_))), "{rejected:?}");
        for number in (0..10).filter(|number| *number != bad) {
            let stored = fixture
                .facts
                .last(&format!("c{number}").parse()?, FactKind::Tick)
                .await?;
            ensure!(stored.is_none(), "{stored:?} of a rejected batch");
        }
    }
    Ok(())
}

#[tokio::test]
async fn batches_of_one_and_concurrent_batches_are_stored() -> Result<()> {
    let fixture = Fixture::start().await?;
    let one = fixture
        .facts
        .publish_batch(&[entry("one", 1, PublishCondition::First)])
        .await?;
    ensure!(one.len() == 1);
    let batches: Vec<Vec<Entry>> = (0..8)
        .map(|batch| {
            (0..100)
                .map(|number| entry(&format!("b{batch}c{number}"), 1, PublishCondition::First))
                .collect()
        })
        .collect();
    let stored = futures::future::try_join_all(batches.iter().map(|batch| fixture.facts.publish_batch(batch))).await?;
    let mut sequences = stored.concat();
    sequences.sort_unstable();
    sequences.dedup();
    ensure!(sequences.len() == 800);
    Ok(())
}

#[tokio::test]
async fn empty_and_oversized_batches_are_rejected() -> Result<()> {
    let fixture = Fixture::start().await?;
    let too_many: Vec<Entry> = (0..=MAX_BATCH)
        .map(|number| entry(&format!("c{number}"), 1, PublishCondition::First))
        .collect();
    for batch in [&[][..], &too_many] {
        let rejected = fixture.facts.publish_batch(batch).await;
        ensure!(
            matches!(rejected, Err(BatchError::Size(size)) if size == batch.len()),
            "{rejected:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn several_ticks_of_a_call_are_stored_together_under_the_condition_of_the_first() -> Result<()> {
    let fixture = Fixture::start().await?;
    let missed = |call: &str, first: u32, sequence: u64| {
        let next = (1..3).map(|next| entry(call, first + next, PublishCondition::AfterPreviousEntry));
        let first = entry(call, first, PublishCondition::CallUnchangedSince(sequence));
        std::iter::once(first).chain(next).collect::<Vec<Entry>>()
    };
    let batch = [missed("a", 1, 0), missed("b", 1, 0)].concat();
    let sequences = fixture.facts.publish_batch(&batch).await?;
    ensure!(sequences == [1, 2, 3, 4, 5, 6], "{sequences:?}");
    for stale in [0, 1, 2] {
        let batch = [missed("b", 4, 6), missed("a", 4, stale)].concat();
        let rejected = fixture.facts.publish_batch(&batch).await;
        ensure!(matches!(rejected, Err(BatchError::Rejected(_))), "{rejected:?}");
    }
    fixture
        .facts
        .publish_batch(&[missed("b", 4, 6), missed("a", 4, 3)].concat())
        .await?;

    let other = entry("other", 1, PublishCondition::AfterPreviousEntry);
    let unguarded = [missed("a", 7, 12), vec![other]].concat();
    let rejected = fixture.facts.publish_batch(&unguarded).await;
    ensure!(matches!(rejected, Err(BatchError::NoSequence(_))), "{rejected:?}");
    Ok(())
}

#[tokio::test]
async fn two_publishers_of_the_same_batch_store_it_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let other = fixture.other().await?;
    for round in 0..10 {
        let batch: Vec<Entry> = (0..50)
            .map(|number| entry(&format!("r{round}c{number}"), 1, PublishCondition::First))
            .collect();
        let (one, two) = tokio::join!(fixture.facts.publish_batch(&batch), other.publish_batch(&batch));
        ensure!(one.is_ok() != two.is_ok(), "{one:?} and {two:?}");
    }
    let mut calls = fixture.storage.calls.clone();
    let messages = calls.info().await?.state.messages;
    ensure!(messages == 500, "{messages}");
    Ok(())
}

/// A delayed tick of a previous lease holder.
#[tokio::test]
async fn a_tick_after_the_settlement_is_rejected() -> Result<()> {
    let fixture = Fixture::start().await?;
    let first = fixture
        .facts
        .publish_batch(&[entry("c", 1, PublishCondition::First)])
        .await?[0];
    let settled = Fact::Settled(settled("c", at(0), 90_000, 1));
    let outcome = fixture
        .facts
        .publish(
            &settled,
            PublishCondition::CallUnchangedSince(first),
            TraceParent::generate(),
        )
        .await?;
    ensure!(matches!(outcome, Outcome::Stored(_)), "{outcome:?}");
    let late = [
        entry("other", 1, PublishCondition::First),
        entry("c", 2, PublishCondition::CallUnchangedSince(first)),
    ];
    let rejected = fixture.facts.publish_batch(&late).await;
    ensure!(matches!(rejected, Err(BatchError::Rejected(_))), "{rejected:?}");
    ensure!(
        fixture
            .facts
            .last(&"c".parse()?, FactKind::Tick)
            .await?
            .map(|stored| stored.sequence)
            == Some(first)
    );
    Ok(())
}
