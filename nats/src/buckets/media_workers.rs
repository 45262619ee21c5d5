//! Bucket `media_workers`: the workers that can host calls. One key per worker, which expires when the worker dies.

use futures::{Stream, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::jetstream::bucket::{Bucket, BucketError, Change, Revised};
use crate::jetstream::storage::Storage;
use crate::wire::id::WorkerId;
use crate::wire::time::Timestamp;

/// The heartbeat of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// The worker that sends the heartbeat.
    pub worker_id: WorkerId,
    /// Number of calls that it hosts.
    pub calls: u32,
    /// Number of calls that it can host.
    pub capacity: u32,
    /// Takes no new calls: it is being shut down, or its buffer of facts is full.
    pub draining: bool,
    /// An operator keeps new calls from it (`cordon`).
    #[serde(default)]
    pub cordoned: bool,
    /// Time of the heartbeat, by the clock of `started_at`.
    pub at: Timestamp,
    /// Time of the heartbeat, by the worker's wall clock, which may have been set since the start. Absent in earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<Timestamp>,
    /// Start of the process, by the worker's wall clock at that time.
    pub started_at: Timestamp,
    /// When the server stored the heartbeat; absent before that.
    #[serde(skip)]
    pub stored_at: Option<Timestamp>,
}

impl WorkerStatus {
    /// The time of the heartbeat by the server's clock, with which no wall clock of a worker interferes.
    pub fn at_on_server(&self) -> Timestamp {
        self.stored_at.unwrap_or(self.at)
    }

    /// The start of the process by the server's clock.
    pub fn started_on_server(&self) -> Timestamp {
        self.at_on_server().minus(self.at.until(self.started_at))
    }
}

/// A change of a worker's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerChange {
    /// A heartbeat.
    Alive(WorkerStatus),
    /// The entry expired or was withdrawn: the worker hosts no calls.
    Gone(WorkerId),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct MediaWorkers {
    bucket: Bucket,
}

impl MediaWorkers {
    /// Opens the bucket.
    pub fn new(storage: &Storage) -> Self {
        Self {
            bucket: Bucket::new(storage.media_workers.clone()),
        }
    }

    /// The entry of a worker, which expires. Two processes with one ID differ in `started_at`.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn entry(&self, worker: &WorkerId) -> Result<Option<Revised<WorkerStatus>>, BucketError> {
        self.bucket.get(worker.as_str()).await
    }

    /// Stores the first heartbeat of a process, and returns its revision.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if the worker has an entry.
    pub async fn claim(&self, status: &WorkerStatus) -> Result<u64, BucketError> {
        self.bucket.create(status.worker_id.as_str(), status).await
    }

    /// Stores the next heartbeat after the one of this revision.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if that one has expired, or another process has claimed the ID.
    pub async fn renew(&self, status: &WorkerStatus, revision: u64) -> Result<u64, BucketError> {
        self.bucket.update(status.worker_id.as_str(), status, revision).await
    }

    /// Removes the entry of a process that stops, unless it is another's.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn withdraw(&self, worker: &WorkerId, started_at: Timestamp) -> Result<(), BucketError> {
        match self.entry(worker).await? {
            Some(entry) if entry.value.started_at == started_at => {
                self.bucket.remove(worker.as_str(), entry.revision).await
            }
            _ => Ok(()),
        }
    }

    /// All workers, then every change. Ends when the watch is lost: watch again.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<WorkerChange, BucketError>> + use<>, BucketError> {
        let changes = self.bucket.watch::<WorkerStatus>(">").await?;
        Ok(changes.filter_map(async |change| match change {
            Ok((key, change)) => read(&key, change).map(Ok),
            Err(error) => Some(Err(error)),
        }))
    }
}

/// `None` for a key that is not a worker ID.
pub(crate) fn read(key: &str, change: Change<WorkerStatus>) -> Option<WorkerChange> {
    match change {
        Change::Put(status, stored_at) => Some(WorkerChange::Alive(WorkerStatus {
            stored_at: Some(stored_at),
            ..status.value
        })),
        Change::Gone => key.parse().ok().map(WorkerChange::Gone),
    }
}
