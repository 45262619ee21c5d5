//! Handles delivered facts together: reads the state of their calls, writes all changed entries as one atomic batch, then
//! acknowledges the facts.
//!
//! The reads are answered by any replica, which may lag. A stale entry is rejected by its revision, and a fact of a call whose
//! settlement was not seen creates an entry that the ticker removes again. After repeated rejections each fact of the batch is
//! handled by itself.

use std::collections::{BTreeSet, HashMap, HashSet};

use contract::buckets::billing_active::BillingEntry;
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::fact_stream::StoredMessage;
use contract::wire::fact::RtpDetected;
use contract::wire::subject;
use contract::{CallId, Fact, FactKind, Timestamp};
use futures::{StreamExt, stream};

use super::handler::{Delivered, RETRY_DELAY, WriteError};
use super::{FactConsumer, nak};
use crate::fact_source::DeliveredMessage;
use crate::metrics;

/// Attempts to write a batch before each of its facts is handled by itself.
const BATCH_ATTEMPTS: u32 = 2;
/// Facts handled by themselves at a time.
const MAX_SINGLE: usize = 32;

/// The stored state of the calls of a batch.
struct CallStates {
    settled: HashSet<CallId>,
    entries: HashMap<CallId, Revised<Option<BillingEntry>>>,
    /// From `rtp_detected`, for calls that ended and whose entry does not have it.
    connected: HashMap<CallId, Timestamp>,
}

impl FactConsumer {
    /// Returns the number of messages.
    pub(super) async fn handle_batch(&self, messages: Vec<Box<dyn DeliveredMessage>>) -> usize {
        let size = messages.len();
        if let Some(pending) = messages.last().and_then(|message| message.pending()) {
            metrics::consumer_pending(pending);
        }
        let mut batch = Vec::with_capacity(size);
        for message in messages {
            batch.extend(self.decode(message).await);
        }
        if batch.is_empty() {
            // All are parked.
            return size;
        }
        for _ in 0..BATCH_ATTEMPTS {
            match self.write_batch(&batch).await {
                Ok(outcomes) => {
                    acknowledge(&batch, &outcomes).await;
                    return size;
                }
                Err(WriteError::Bucket(BucketError::Conflict { .. })) => {
                    tracing::debug!(facts = batch.len(), "batch of entries rejected: retrying");
                }
                Err(error) => {
                    tracing::warn!(%error, facts = batch.len(), "facts not written to billing_active: retrying");
                    for Delivered { message, fact, .. } in &batch {
                        metrics::fact_handled(fact.kind().as_str(), "failed");
                        nak(message.as_ref(), Some(RETRY_DELAY)).await;
                    }
                    return size;
                }
            }
        }
        let single = stream::iter(&batch).for_each_concurrent(MAX_SINGLE, |delivered| self.handle(delivered));
        single.await;
        size
    }

    /// Writes the changed entries and returns the outcome of each fact.
    async fn write_batch(&self, batch: &[Delivered]) -> Result<Vec<&'static str>, WriteError> {
        let mut states = self.read(batch).await?;
        let mut changed = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivered in batch {
            let call = delivered.fact.call_id();
            if states.settled.contains(call) {
                outcomes.push("settled_before");
                continue;
            }
            let state = states.entries.entry(call.clone()).or_insert(Revised {
                value: None,
                revision: 0,
            });
            let before = state.value.clone();
            let connected_at = match &delivered.fact {
                Fact::Ended(ended) => states.connected.get(call).copied().or(ended.connected_at),
                _ => None,
            };
            state.value = delivered.merged(state.value.take(), connected_at);
            if before != state.value {
                changed.insert(call);
            }
            outcomes.push("entered");
        }
        let entries: Vec<Revised<BillingEntry>> = changed
            .iter()
            .filter_map(|call| {
                let Revised { value, revision } = states.entries.remove(*call)?;
                value.map(|value| Revised { value, revision })
            })
            .collect();
        if !entries.is_empty() {
            self.deps.active_billing.write_many(&entries).await?;
        }
        Ok(outcomes)
    }

    async fn read(&self, batch: &[Delivered]) -> Result<CallStates, WriteError> {
        // In a fixed order: the same facts result in the same requests.
        let calls: BTreeSet<&CallId> = batch.iter().map(|delivered| delivered.fact.call_id()).collect();
        let calls: Vec<CallId> = calls.into_iter().cloned().collect();
        let settled = async {
            let settled = self.deps.facts.last_of_kind(&calls, FactKind::Settled).await?;
            Ok::<_, WriteError>(settled.iter().filter_map(call_of).collect::<HashSet<CallId>>())
        };
        let entries = async { Ok(self.deps.active_billing.get_many(&calls).await?) };
        let (settled, entries) = futures::future::try_join(settled, entries).await?;
        let is_connected = |call: &CallId| {
            let entry = entries.get(call).and_then(|entry| entry.value.as_ref());
            entry.is_some_and(|entry| entry.connected_at.is_some())
        };
        let ended = batch.iter().filter_map(|delivered| match &delivered.fact {
            Fact::Ended(ended) => Some(&ended.parties.call_id),
            _ => None,
        });
        let unconnected: Vec<CallId> = ended
            .filter(|call| !settled.contains(call) && !is_connected(call))
            .cloned()
            .collect();
        let detected = self
            .deps
            .facts
            .last_of_kind(&unconnected, FactKind::RtpDetected)
            .await?;
        Ok(CallStates {
            connected: detected.iter().filter_map(connected_at).collect(),
            settled,
            entries,
        })
    }
}

fn call_of(message: &StoredMessage) -> Option<CallId> {
    subject::call_of_fact(&message.subject)
}

fn connected_at(message: &StoredMessage) -> Option<(CallId, Timestamp)> {
    match Fact::decode(&message.subject, &message.payload) {
        Ok(Fact::RtpDetected(RtpDetected {
            parties, connected_at, ..
        })) => Some((parties.call_id, connected_at)),
        Ok(_) => None,
        // A fact that cannot be decoded is parked when it is delivered. The end of the call must not wait for that.
        Err(error) => {
            tracing::error!(subject = message.subject, %error, "stored rtp_detected not decoded, using the connectedAt of ended: check its writer's version");
            None
        }
    }
}

/// The confirmation of the last acknowledgement covers all of them.
async fn acknowledge(batch: &[Delivered], outcomes: &[&'static str]) {
    for (Delivered { fact, .. }, outcome) in batch.iter().zip(outcomes) {
        metrics::fact_handled(fact.kind().as_str(), outcome);
    }
    let Some((last, others)) = batch.split_last() else {
        return;
    };
    for Delivered { message, .. } in others {
        if let Err(error) = message.send_acknowledgement().await {
            tracing::debug!(%error, "acknowledgement failed: the fact will be redelivered");
        }
    }
    if let Err(error) = last.message.acknowledge().await {
        tracing::warn!(facts = batch.len(), %error, "acknowledgement of a batch not confirmed: its facts may be redelivered");
    }
}
