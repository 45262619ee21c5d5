//! The calls of a run and their facts.

use anyhow::Result;
use contract::jetstream::batch::Entry;
use contract::{CallId, Fact, FactStore, PublishCondition, Timestamp, TraceParent};
use futures::{TryStreamExt, stream};

use contract::samples::{ended, rtp_detected};

/// Batches in flight: the injection must be faster than the consumer that it measures.
const BATCHES_IN_FLIGHT: usize = 4;
/// Facts of one batch. The ticks of a call are late by as long as its `rtp_detected` took to be stored, so the batches are small: a
/// media-worker stores each fact at once.
const BATCH: usize = 100;

/// A call that is connected for the whole run.
#[derive(Debug, Clone)]
pub struct PlannedCall {
    /// Its ID, as long as those of real calls.
    pub id: CallId,
    /// When it is connected.
    pub connected_at: Timestamp,
}

/// Calls whose minutes are full at times spread evenly over the interval, the first one at `first_due`.
pub fn plan(calls: usize, interval_ms: u64, first_due: Timestamp) -> Vec<PlannedCall> {
    let first = first_due.as_millis().saturating_sub_unsigned(interval_ms);
    let (count, interval) = (calls.max(1) as u128, u128::from(interval_ms));
    (0..calls)
        .filter_map(|number| {
            let offset = i64::try_from(number as u128 * interval / count).ok()?;
            Some(PlannedCall {
                id: CallId::generate(),
                connected_at: Timestamp::from_millis(first + offset)?,
            })
        })
        .collect()
}

/// Stores `rtp_detected` of every call.
pub async fn connect(facts: &FactStore, calls: &[PlannedCall]) -> Result<()> {
    let connected = calls
        .iter()
        .map(|call| rtp_detected(call.id.as_str(), call.connected_at).into());
    publish(facts, connected.collect()).await
}

/// Stores `ended` of every call.
pub async fn end(facts: &FactStore, calls: &[PlannedCall], ended_at: Timestamp) -> Result<()> {
    let ended = calls
        .iter()
        .map(|call| ended(call.id.as_str(), ended_at, Some(call.connected_at)).into());
    publish(facts, ended.collect()).await
}

async fn publish(store: &FactStore, facts: Vec<Fact>) -> Result<()> {
    let entries: Vec<Entry> = facts
        .into_iter()
        .map(|fact| Entry {
            fact,
            condition: PublishCondition::First,
            trace: TraceParent::generate(),
        })
        .collect();
    stream::iter(entries.chunks(BATCH).map(Ok))
        .try_for_each_concurrent(BATCHES_IN_FLIGHT, async |batch| {
            store.publish_batch(batch).await?;
            anyhow::Ok(())
        })
        .await
}
