//! Bucket `active_calls`: which calls are not over, and who is in one.
//!
//! Three keys a call: `call.<callId>` says where it stands, `user.<userId>` and `otomo.<otomoId>` hold it as a lock, which is
//! what makes a second call `busy`. They are written in an order that leaves no lock behind: the call's own key comes first
//! and goes last, so whoever dies in between leaves an entry with a deadline that any ws-edge clears up.
//!
//! The bucket is derived state. What happened is in the stream: a lock whose call has a stored `ended` is stale.

use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use crate::jetstream::bucket::{Bucket, Change};
use crate::jetstream::fact_store::{FactError, FactStore};
use crate::jetstream::storage::Storage;
use crate::wire::envelope::TraceParent;
use crate::wire::fact::FactKind;
use crate::wire::id::{CallId, NodeId, WorkerId};
use crate::wire::party::{Parties, Party, Role};
use crate::wire::time::Timestamp;

pub use crate::jetstream::bucket::{BucketError, Revised};

/// Every call's own key.
pub(crate) const CALL_KEYS: &str = "call.*";

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveCall {
    /// The call and who is in it.
    #[serde(flatten)]
    pub parties: Parties,
    /// The ws-edge node that took the request; it ends the ringing, others do so only if it is gone.
    pub node_id: NodeId,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// When it stops ringing.
    pub ring_deadline: Timestamp,
    /// Set once the otomo took it.
    pub accepted: Option<Acceptance>,
    /// The call's trace.
    pub traceparent: TraceParent,
}

/// What is known of an accepted call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acceptance {
    /// When.
    pub accepted_at: Timestamp,
    /// The worker that hosts it.
    pub worker_id: WorkerId,
    /// When RTP must have come; the worker itself sees to it while it lives.
    pub media_deadline: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    call_id: CallId,
}

/// Why a call cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// That side is in a call.
    #[error("the {0} is in another call")]
    Busy(Role),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The stream, asked whether a lock is stale.
    #[error(transparent)]
    Facts(#[from] FactError),
}

/// A call's entry has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallChange {
    /// There now.
    Active(Revised<ActiveCall>),
    /// Over.
    Gone(CallId),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct ActiveCalls {
    bucket: Bucket,
    facts: FactStore,
}

impl ActiveCalls {
    /// From the opened storage; `facts` tells whether a lock is stale.
    pub fn new(storage: &Storage, facts: FactStore) -> Self {
        Self {
            bucket: Bucket::new(storage.active_calls.clone()),
            facts,
        }
    }

    /// Enters a call and locks both parties. On an error nothing of it stays.
    ///
    /// # Errors
    /// [`ClaimError::Busy`] if a party is in a call that has not ended.
    pub async fn claim(&self, call: &ActiveCall) -> Result<u64, ClaimError> {
        let revision = self.bucket.create(&call_key(&call.parties.call_id), call).await?;
        for role in Role::BOTH {
            if let Err(error) = self.lock(&call.parties, role).await {
                self.release(&call.parties).await?;
                return Err(error);
            }
        }
        Ok(revision)
    }

    async fn lock(&self, parties: &Parties, role: Role) -> Result<(), ClaimError> {
        let key = party_key(&parties.party(role));
        let lock = Lock {
            call_id: parties.call_id.clone(),
        };
        match self.bucket.create(&key, &lock).await {
            Err(BucketError::Conflict { .. }) => {}
            outcome => return Ok(outcome.map(drop)?),
        }
        let outcome = match self.bucket.get::<Lock>(&key).await? {
            None => self.bucket.create(&key, &lock).await,
            Some(held) if self.is_stale(&held.value.call_id).await? => {
                tracing::info!(%key, held_by = %held.value.call_id, "took over a stale lock");
                self.bucket.update(&key, &lock, held.revision).await
            }
            Some(_) => return Err(ClaimError::Busy(role)),
        };
        match outcome {
            // Somebody else took it first, so it is theirs.
            Err(BucketError::Conflict { .. }) => Err(ClaimError::Busy(role)),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// Whether a lock of this call holds nobody any more. The entry is written before its locks and taken away after them: a
    /// lock without one was written late, when its claim had been given up and cleared away.
    async fn is_stale(&self, call: &CallId) -> Result<bool, ClaimError> {
        Ok(self.get(call).await?.is_none() || self.facts.last(call, FactKind::Ended).await?.is_some())
    }

    /// Writes where a call stands, if it stands where `revision` saw it.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if it has changed.
    pub async fn update(&self, call: &ActiveCall, revision: u64) -> Result<u64, BucketError> {
        self.bucket
            .update(&call_key(&call.parties.call_id), call, revision)
            .await
    }

    /// Removes a call and both its locks. To be called once `ended` is stored; harmless when repeated.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]; what was left is cleared up by whoever meets it.
    pub async fn release(&self, parties: &Parties) -> Result<(), BucketError> {
        for role in Role::BOTH {
            let key = party_key(&parties.party(role));
            if let Some(held) = self.bucket.get::<Lock>(&key).await?
                && held.value.call_id == parties.call_id
            {
                self.remove(&key, held.revision).await?;
            }
        }
        let key = call_key(&parties.call_id);
        match self.bucket.get::<serde_json::Value>(&key).await? {
            Some(entry) => self.remove(&key, entry.revision).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, key: &str, revision: u64) -> Result<(), BucketError> {
        match self.bucket.remove(key, revision).await {
            // Taken over, or removed by somebody else who saw the same end.
            Err(BucketError::Conflict { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// A call that is not over.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn get(&self, call: &CallId) -> Result<Option<Revised<ActiveCall>>, BucketError> {
        self.bucket.get(&call_key(call)).await
    }

    /// The call that a party is in.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn of_party(&self, party: &Party) -> Result<Option<Revised<ActiveCall>>, BucketError> {
        match self.bucket.get::<Lock>(&party_key(party)).await? {
            Some(lock) => self.get(&lock.value.call_id).await,
            None => Ok(None),
        }
    }

    /// All calls, then every change. Ends when the watcher is lost: watch again.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<CallChange, BucketError>> + use<>, BucketError> {
        let changes = self.bucket.watch::<ActiveCall>(CALL_KEYS).await?;
        Ok(changes.filter_map(async |change| match change {
            Ok((key, change)) => read(&key, change).map(Ok),
            Err(error) => Some(Err(error)),
        }))
    }
}

/// Nothing for a key that is no call's.
pub(crate) fn read(key: &str, change: Change<ActiveCall>) -> Option<CallChange> {
    match change {
        Change::Put(call) => Some(CallChange::Active(call)),
        Change::Gone => key.strip_prefix("call.")?.parse().ok().map(CallChange::Gone),
    }
}

fn call_key(call: &CallId) -> String {
    format!("call.{call}")
}

fn party_key(party: &Party) -> String {
    party.to_string()
}
