//! The last heartbeat of each process of a media-worker, for a day: keys `worker.<workerId>.<start in ms>` of the bucket
//! `active_calls`. The entry in `media_workers` expires when a worker dies; its calls end at this time, even if no ws-edge was
//! running when it died.

use std::time::Duration;

use async_nats::jetstream::kv;

use crate::buckets::media_workers::WorkerStatus;
use crate::jetstream::bucket::{self, Bucket, BucketError};
use crate::jetstream::connection::Nats;
use crate::jetstream::key_value;
use crate::jetstream::storage::Storage;
use crate::wire::id::WorkerId;
use crate::wire::time::Timestamp;

/// Longer than it may take until a ws-edge ends the calls of a worker that died.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// The last heartbeats.
#[derive(Debug, Clone)]
pub struct LastHeartbeats {
    bucket: Bucket,
    store: kv::Store,
}

impl LastHeartbeats {
    /// Opens the bucket.
    pub fn new(nats: &Nats, storage: &Storage) -> Self {
        let store = storage.active_calls.clone();
        Self {
            bucket: Bucket::expiring(nats.jetstream.clone(), store.clone()),
            store,
        }
    }

    /// Stores the heartbeat of a process.
    ///
    /// # Errors
    /// [`BucketError`]
    pub async fn put(&self, status: &WorkerStatus) -> Result<(), BucketError> {
        let key = key(&status.worker_id, status.started_at);
        self.bucket.put_for(&key, status, KEPT_FOR).await.map(drop)
    }

    /// The last heartbeat of the process of a worker that was started at this time by its own clock.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]. An entry that cannot be read counts as absent.
    pub async fn of(&self, worker: &WorkerId, started_at: Timestamp) -> Result<Option<WorkerStatus>, BucketError> {
        let key = key(worker, started_at);
        let Some((stored, stored_at)) = key_value::stored(&self.store, &key).await? else {
            return Ok(None);
        };
        let status = bucket::readable::<WorkerStatus>(bucket::decode(&key, &stored.value, stored.revision));
        Ok(status.map(|status| WorkerStatus {
            stored_at: Some(stored_at),
            ..status
        }))
    }
}

fn key(worker: &WorkerId, started_at: Timestamp) -> String {
    format!("worker.{worker}.{}", started_at.as_millis())
}
