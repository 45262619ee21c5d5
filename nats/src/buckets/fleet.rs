//! Bucket `media_workers`: who could host a call. One key a worker, expiring when the worker dies.

use futures::{Stream, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::jetstream::bucket::{Bucket, BucketError, Change};
use crate::jetstream::storage::Storage;
use crate::wire::id::WorkerId;
use crate::wire::time::Timestamp;

/// What a worker says of itself every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Who.
    pub worker_id: WorkerId,
    /// Calls it hosts.
    pub calls: u32,
    /// Calls it may host.
    pub capacity: u32,
    /// Takes no new calls: it is being shut down, or its buffer of facts is full.
    pub draining: bool,
    /// When it said so, by its own clock: its last sign of life.
    pub at: Timestamp,
    /// Since when it runs.
    pub started_at: Timestamp,
}

/// A worker's entry has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetChange {
    /// A sign of life.
    Alive(WorkerStatus),
    /// Its entry expired or was withdrawn: it hosts nothing any more.
    Gone(WorkerId),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct Fleet {
    bucket: Bucket,
}

impl Fleet {
    /// From the opened storage.
    pub fn new(storage: &Storage) -> Self {
        Self {
            bucket: Bucket::new(storage.media_workers.clone()),
        }
    }

    /// A worker's sign of life.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn beat(&self, status: &WorkerStatus) -> Result<(), BucketError> {
        self.bucket.put(status.worker_id.as_str(), status).await.map(drop)
    }

    /// A worker that stops takes itself off the list.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn withdraw(&self, worker: &WorkerId) -> Result<(), BucketError> {
        match self.bucket.get::<serde_json::Value>(worker.as_str()).await? {
            Some(entry) => self.bucket.remove(worker.as_str(), entry.revision).await,
            None => Ok(()),
        }
    }

    /// Everybody, then every change; see [`BucketError`]. Ends when the watcher is lost: watch again.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<FleetChange, BucketError>> + use<>, BucketError> {
        let changes = self.bucket.watch::<WorkerStatus>(">").await?;
        Ok(changes.filter_map(async |change| match change {
            Ok((key, change)) => read(&key, change).map(Ok),
            Err(error) => Some(Err(error)),
        }))
    }
}

/// Nothing for a key that is no worker's.
pub(crate) fn read(key: &str, change: Change<WorkerStatus>) -> Option<FleetChange> {
    match change {
        Change::Put(status) => Some(FleetChange::Alive(status.value)),
        Change::Gone => key.parse().ok().map(FleetChange::Gone),
    }
}
