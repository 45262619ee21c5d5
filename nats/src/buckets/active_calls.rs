//! Bucket `active_calls`: the calls that are not over, and their parties.
//!
//! Three keys per call: `call.<callId>` has the state of the call, `user.<userId>` and `otomo.<otomoId>` are locks, which make a
//! second call `busy`. The call's own key is written first and removed last, so a crash in between leaves an entry with a
//! deadline, which any ws-edge cleans up.
//!
//! The bucket is derived state, the stream is the record: a lock whose call has a stored `ended` is stale, and so is one that cannot
//! be read.

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

/// The keys of the calls themselves.
pub(crate) const CALL_KEYS: &str = "call.*";

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveCall {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The ws-edge node that accepted the request. It ends the ringing; other nodes do so only if it is gone.
    pub node_id: NodeId,
    /// Time of the request.
    pub requested_at: Timestamp,
    /// End of the ringing.
    pub ring_deadline: Timestamp,
    /// Set when the otomo accepts.
    pub accepted: Option<Acceptance>,
    /// The call's trace.
    pub traceparent: TraceParent,
}

/// The acceptance of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acceptance {
    /// Time of the acceptance.
    pub accepted_at: Timestamp,
    /// The worker that hosts the call.
    pub worker_id: WorkerId,
    /// Start of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_started_at: Option<Timestamp>,
    /// The first RTP packet must arrive before this time. The worker enforces it while it lives.
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
    /// This party is in another call.
    #[error("the {0} is in another call")]
    Busy(Role),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The stream failed while a lock was checked.
    #[error(transparent)]
    Facts(#[from] FactError),
}

/// A change of a call's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallChange {
    /// The call is active.
    Active(Revised<ActiveCall>),
    /// The call is over.
    Gone(CallId),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct ActiveCalls {
    bucket: Bucket,
    facts: FactStore,
}

impl ActiveCalls {
    /// Opens the bucket. `facts` is used to check whether a lock is stale.
    pub fn new(storage: &Storage, facts: FactStore) -> Self {
        Self {
            bucket: Bucket::new(storage.active_calls.clone()),
            facts,
        }
    }

    /// Adds a call and locks both parties. On an error it removes what it wrote.
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
        let outcome = match self.bucket.find::<Lock>(&key).await? {
            None => self.bucket.create(&key, &lock).await,
            Some(Revised { value, revision }) => {
                if let Some(held) = value {
                    if !self.is_stale(&held.call_id).await? {
                        return Err(ClaimError::Busy(role));
                    }
                    tracing::info!(%key, call_id = %held.call_id, "took over the stale lock of a call");
                }
                self.bucket.update(&key, &lock, revision).await
            }
        };
        match outcome {
            // Another call was faster.
            Err(BucketError::Conflict { .. }) => Err(ClaimError::Busy(role)),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// Whether the locks of this call are stale. The entry is written before its locks and removed after them: a lock without an
    /// entry was written late, after its claim had been cancelled and cleaned up.
    async fn is_stale(&self, call: &CallId) -> Result<bool, ClaimError> {
        Ok(self.get(call).await?.is_none() || self.facts.has(call, FactKind::Ended).await?)
    }

    /// Updates the state of a call if its entry still has this revision.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if it has changed.
    pub async fn update(&self, call: &ActiveCall, revision: u64) -> Result<u64, BucketError> {
        self.bucket
            .update(&call_key(&call.parties.call_id), call, revision)
            .await
    }

    /// Removes a call and both its locks. Call it when `ended` is stored; it is idempotent.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]; stale locks and overdue calls are cleaned up later.
    pub async fn release(&self, parties: &Parties) -> Result<(), BucketError> {
        self.unlock(parties).await?;
        let key = call_key(&parties.call_id);
        match self.bucket.find::<serde_json::Value>(&key).await? {
            Some(entry) => self.remove(&key, entry.revision).await,
            None => Ok(()),
        }
    }

    /// Removes both locks of a call and keeps its entry: the parties are in no call, and an edge still ends this one.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn unlock(&self, parties: &Parties) -> Result<(), BucketError> {
        for role in Role::BOTH {
            let key = party_key(&parties.party(role));
            if let Some(Revised { value, revision }) = self.bucket.find::<Lock>(&key).await?
                && value.is_some_and(|held| held.call_id == parties.call_id)
            {
                self.remove(&key, revision).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, key: &str, revision: u64) -> Result<(), BucketError> {
        match self.bucket.remove(key, revision).await {
            // Taken over, or already removed.
            Err(BucketError::Conflict { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Reads the entry of a call.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn get(&self, call: &CallId) -> Result<Option<Revised<ActiveCall>>, BucketError> {
        let found = self.bucket.find(&call_key(call)).await?;
        Ok(found.and_then(|Revised { value, revision }| value.map(|value| Revised { value, revision })))
    }

    /// Reads the entry of the call that a party is in.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn of_party(&self, party: &Party) -> Result<Option<Revised<ActiveCall>>, BucketError> {
        match self.bucket.find::<Lock>(&party_key(party)).await? {
            Some(Revised { value: Some(lock), .. }) => self.get(&lock.call_id).await,
            Some(Revised { value: None, .. }) | None => Ok(None),
        }
    }

    /// All calls, then every change. Ends when the watch is lost: watch again.
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

/// `None` for a key of another kind.
pub(crate) fn read(key: &str, change: Change<ActiveCall>) -> Option<CallChange> {
    match change {
        Change::Put(call, _) => Some(CallChange::Active(call)),
        Change::Gone => key.strip_prefix("call.")?.parse().ok().map(CallChange::Gone),
    }
}

fn call_key(call: &CallId) -> String {
    format!("call.{call}")
}

fn party_key(party: &Party) -> String {
    party.to_string()
}
