//! Bucket `billing_active`: the calls being billed, from the first fact that concerns billing to their settlement.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use crate::jetstream::bucket::{Bucket, BucketError, Change, Revised};
use crate::jetstream::connection::Nats;
use crate::jetstream::key_value::KeyValue;
use crate::jetstream::storage::Storage;
use crate::wire::envelope::TraceParent;
use crate::wire::fact::{EndReason, Ended};
use crate::wire::id::{CallId, NodeId};
use crate::wire::party::Parties;
use crate::wire::time::Timestamp;

/// A call that is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BillingEntry {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// From `rtp_detected`; null until that fact is processed.
    pub connected_at: Option<Timestamp>,
    /// When the call was connected, by the server's clock: what its ticks wait for. Null if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The interval of the call's terms in milliseconds; null without terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<NonZeroU32>,
    /// From `ended`; null until that fact is processed. Boxed, because few of the active calls have one.
    pub end: Option<Box<BillingEnd>>,
    /// The call's trace.
    pub traceparent: TraceParent,
}

/// The part of `ended` that billing needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BillingEnd {
    /// End of the call.
    pub ended_at: Timestamp,
    /// Reason of the end.
    pub reason: EndReason,
}

impl From<&Ended> for BillingEnd {
    fn from(fact: &Ended) -> Self {
        Self {
            ended_at: fact.ended_at,
            reason: fact.reason,
        }
    }
}

/// A change of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BillingChange {
    /// Written; with the revision that [`ActiveBilling::remove`] needs.
    Open(Revised<BillingEntry>),
    /// Settled and removed.
    Closed(CallId),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct ActiveBilling {
    bucket: Bucket,
}

/// Keys that are never the ID of a call.
const PROBE: &str = "probe.";
/// Longer than any entry.
const ENTRY_MAX_BYTES: usize = 1_024;
/// A probe finds that the one before has disappeared.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Attempts to change an entry that others write concurrently.
const UPSERT_ATTEMPTS: u32 = 16;

impl ActiveBilling {
    /// Opens the bucket.
    pub fn new(nats: &Nats, storage: &Storage) -> Self {
        Self {
            bucket: Bucket::with_batches(nats.client.clone(), storage.billing_active.clone()),
        }
    }

    /// Uses another implementation of a bucket, such as a simulated one.
    pub fn with_port(keys: Arc<dyn KeyValue>) -> Self {
        Self {
            bucket: Bucket::with_port(keys),
        }
    }

    /// The entry of a call.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn get(&self, call: &CallId) -> Result<Option<Revised<BillingEntry>>, BucketError> {
        self.bucket.get(call.as_str()).await
    }

    /// The entries of these calls and the revisions that [`write_many`](Self::write_many) needs, by any replica, which may
    /// lag. Calls that never had an entry are left out. At most [`MAX_BATCH`](crate::jetstream::batch::MAX_BATCH) calls.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn get_many(
        &self,
        calls: &[CallId],
    ) -> Result<HashMap<CallId, Revised<Option<BillingEntry>>>, BucketError> {
        let keys = calls.iter().map(|call| call.as_str().to_owned()).collect();
        let found = self.bucket.get_many(keys).await?.into_iter();
        Ok(found
            .filter_map(|(key, entry)| Some((key.parse().ok()?, entry)))
            .collect())
    }

    /// Writes the entries of different calls, all or none. The revision is the one that
    /// [`get_many`](Self::get_many) returned, or 0. At most [`MAX_BATCH`](crate::jetstream::batch::MAX_BATCH) entries.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if one of them has changed; [`BucketError`]
    pub async fn write_many(&self, entries: &[Revised<BillingEntry>]) -> Result<(), BucketError> {
        let entries = entries.iter().map(|entry| {
            let revised = Revised {
                value: &entry.value,
                revision: entry.revision,
            };
            (entry.value.parties.call_id.as_str(), revised)
        });
        self.bucket.write_many(entries).await
    }

    /// Changes the entry of a call, or creates it. `change` maps the stored entry to the new one, or to `None` if nothing is to
    /// be written; it runs again after a conflict.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn upsert(
        &self,
        call: &CallId,
        change: impl Fn(Option<BillingEntry>) -> Option<BillingEntry>,
    ) -> Result<(), BucketError> {
        let mut failure = BucketError::Conflict { key: call.to_string() };
        for _ in 0..UPSERT_ATTEMPTS {
            let (before, revision) = match self.bucket.find(call.as_str()).await? {
                Some(entry) => (entry.value, Some(entry.revision)),
                None => (None, None),
            };
            let after = change(before.clone());
            let Some(changed) = after.filter(|after| before.as_ref() != Some(after)) else {
                return Ok(());
            };
            let outcome = match revision {
                Some(revision) => self.bucket.update(call.as_str(), &changed, revision).await,
                None => self.bucket.create(call.as_str(), &changed).await,
            };
            match outcome {
                Ok(_) => return Ok(()),
                Err(conflict @ BucketError::Conflict { .. }) => failure = conflict,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    /// Removes the entry of a settled call if it still has this revision.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn remove(&self, call: &CallId, revision: u64) -> Result<(), BucketError> {
        self.bucket.remove(call.as_str(), revision).await
    }

    /// Removes the entries of settled calls that have these revisions, all or none. At most
    /// [`MAX_BATCH`](crate::jetstream::batch::MAX_BATCH) different calls.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if one of them has changed; [`BucketError`]
    pub async fn remove_many(&self, calls: &[(&CallId, u64)]) -> Result<(), BucketError> {
        let keys = calls.iter().map(|(call, revision)| (call.as_str(), *revision));
        self.bucket.remove_many(keys).await
    }

    /// Whether the bucket has room for another entry. Watchers ignore the probe. Not more often than every [`PROBE_INTERVAL`].
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn probe(&self, instance: &NodeId) -> Result<(), BucketError> {
        self.bucket.probe(&format!("{PROBE}{instance}"), ENTRY_MAX_BYTES).await
    }

    /// All entries, then every change. Ends when the watch is lost: watch again.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<BillingChange, BucketError>> + use<>, BucketError> {
        let changes = self.bucket.watch::<BillingEntry>(">").await?;
        Ok(changes.filter_map(async |change| match change {
            Ok((_, Change::Put(entry, _))) => Some(Ok(BillingChange::Open(entry))),
            Ok((key, Change::Gone)) => key.parse().ok().map(|call| Ok(BillingChange::Closed(call))),
            Err(error) => Some(Err(error)),
        }))
    }
}
