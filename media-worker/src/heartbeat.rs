//! The worker's heartbeats in the bucket `media_workers`, and the recovery after a time without them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::buckets::last_heartbeats::LastHeartbeats;
use contract::buckets::media_workers::{MediaWorkers, WorkerStatus};
use contract::jetstream::bucket::BucketError;
use contract::jetstream::storage::WORKER_TTL;
use contract::wire::fact::FactKind;
use contract::{EndReason, FactStore, Nats, Timestamp, WorkerId};
use futures::StreamExt;
use service::BoxError;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Call, Calls};
use crate::clock_reading::ClockReading;
use crate::draining;

/// Calls whose end is looked up at the same time after missed heartbeats.
const LOOKUPS_MAX: usize = 16;
/// Heartbeats after a reconnection, or after missed ones, with which the ends of calls are looked up: an edge that asked this worker in
/// vain may store an end some seconds later.
const LOOKUPS: u32 = 4;
/// The pause before a failed lookup is repeated.
const LOOKUP_RETRY: Duration = Duration::from_secs(1);

/// Between two looks at an entry that is to expire.
const CLAIM_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time for the ends of the calls of a worker whose ID is another's.
const ENDING_TIME: Duration = Duration::from_secs(10);

/// Two workers with one ID would receive each other's commands: calls without media, and media without a bill.
#[derive(Debug, thiserror::Error)]
#[error(
    "worker_id {worker_id} is used by another media-worker, started at {started_at}: give each its own worker_id, or none"
)]
pub struct DuplicateId {
    worker_id: WorkerId,
    started_at: Timestamp,
}

impl From<WorkerStatus> for DuplicateId {
    fn from(other: WorkerStatus) -> Self {
        Self {
            worker_id: other.worker_id,
            started_at: other.started_at,
        }
    }
}

/// The worker's own entry in the bucket `media_workers`.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    revision: u64,
}

impl Claim {
    /// Claims the ID of this worker, closed to calls until the first heartbeat. The entry of a process that has died is waited
    /// for until it expires.
    ///
    /// # Errors
    /// A living process has the ID.
    pub async fn take(nats: &Nats, media_workers: &MediaWorkers, calls: &Calls) -> Result<Self, DuplicateId> {
        let closed = WorkerStatus {
            draining: true,
            ..status(calls)
        };
        let mut seen = None;
        loop {
            nats.connected().await;
            match media_workers.entry(&closed.worker_id).await {
                Ok(None) => match media_workers.claim(&closed).await {
                    Ok(revision) => return Ok(Self { revision }),
                    // Another process was faster, or an acknowledgement was lost.
                    Err(BucketError::Conflict { .. }) => {}
                    Err(error) => tracing::warn!(%error, "worker_id not claimed: retrying"),
                },
                Ok(Some(entry)) => match seen {
                    None => {
                        let (worker_id, started_at) = (&closed.worker_id, entry.value.started_at);
                        tracing::info!(%worker_id, %started_at, "another process had this worker_id: waiting until its entry expires");
                        seen = Some(entry.revision);
                    }
                    Some(revision) if revision != entry.revision => return Err(entry.value.into()),
                    Some(_) => {}
                },
                Err(error) => tracing::warn!(%error, "worker_id not claimed: retrying"),
            }
            tokio::time::sleep(CLAIM_INTERVAL).await;
        }
    }
}

/// Why a heartbeat was not stored.
#[derive(Debug, thiserror::Error)]
enum HeartbeatError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    DuplicateId(#[from] DuplicateId),
}

/// The dependencies of the heartbeat.
pub struct Heartbeat {
    /// The connection; without it no heartbeat is attempted.
    pub nats: Nats,
    /// The bucket of heartbeats.
    pub media_workers: MediaWorkers,
    /// This worker's entry there.
    pub claim: Claim,
    /// Where its last heartbeat remains when the entry has expired.
    pub last_heartbeats: LastHeartbeats,
    /// The stream, to look up calls that ended meanwhile.
    pub facts: FactStore,
    /// The calls to report.
    pub calls: Arc<Calls>,
    /// The time between two heartbeats.
    pub interval: Duration,
}

impl Heartbeat {
    /// Sends heartbeats until `drained`, and one at once when `stop` or a cordon closes the worker to new calls, and when NATS is
    /// connected again.
    ///
    /// # Errors
    /// [`DuplicateId`]: this worker's entry had expired, and another process has the ID now. Its calls are ended before.
    pub async fn run(mut self, stop: CancellationToken, drained: CancellationToken) -> Result<(), BoxError> {
        let mut heartbeat_timer = tokio::time::interval(self.interval);
        heartbeat_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cordoned = self.calls.admission().cordoned();
        let (mut tracker, mut stopping) = (HeartbeatGap::new(Instant::now()), false);
        let mut nats_state = self.nats.state();
        let (mut connections, mut lookups) = (nats_state.borrow().connections, 0);
        let mut lookup: Option<JoinHandle<Option<()>>> = None;
        loop {
            tokio::select! {
                () = drained.cancelled() => return Ok(()),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    // Before the heartbeat that announces it.
                    self.calls.admission().start_draining();
                }
                // The sender lives as long as the calls. Placement should not have to be refused until the next heartbeat.
                _ = cordoned.changed() => {}
                // Another process may have this worker's ID meanwhile, and receives its commands.
                Ok(()) = nats_state.changed() => {}
                _ = heartbeat_timer.tick() => {}
            }
            let state = *nats_state.borrow_and_update();
            if !state.connected {
                continue;
            }
            let sent_at = Instant::now();
            match self.store().await {
                Ok(()) => {
                    let gap = tracker.heartbeat_stored(sent_at, Instant::now());
                    if gap >= WORKER_TTL {
                        tracing::warn!(
                            ?gap,
                            "heartbeats missed: looking up calls that other services have ended"
                        );
                        lookups = LOOKUPS;
                    }
                    if std::mem::replace(&mut connections, state.connections) != state.connections {
                        lookups = LOOKUPS;
                    }
                    if lookups > 0 && lookup.as_ref().is_none_or(JoinHandle::is_finished) {
                        lookups -= 1;
                        let (calls, facts, drained) = (Arc::clone(&self.calls), self.facts.clone(), drained.clone());
                        let looking =
                            async move { drained.run_until_cancelled(release_ended_calls(&calls, &facts)).await };
                        lookup = Some(tokio::spawn(looking));
                    }
                }
                Err(HeartbeatError::DuplicateId(duplicate)) => {
                    tracing::error!(error = %duplicate, "ending this worker's calls and stopping");
                    self.calls.admission().start_draining();
                    let ending = draining::end_all(&self.calls, EndReason::WorkerLost);
                    let _ = tokio::time::timeout(ENDING_TIME, ending).await;
                    return Err(duplicate.into());
                }
                Err(HeartbeatError::Bucket(error)) => {
                    tracing::warn!(%error, "heartbeat failed: retrying");
                }
            }
        }
    }

    async fn store(&mut self) -> Result<(), HeartbeatError> {
        let status = status(&self.calls);
        let (entry, kept) = tokio::join!(self.store_entry(&status), self.last_heartbeats.put(&status));
        self.claim.revision = entry?;
        Ok(kept?)
    }

    /// Returns the revision of the entry.
    async fn store_entry(&self, status: &WorkerStatus) -> Result<u64, HeartbeatError> {
        Ok(match self.media_workers.renew(status, self.claim.revision).await {
            Err(BucketError::Conflict { .. }) => match self.media_workers.entry(&status.worker_id).await? {
                // It has expired, or the store is a new one.
                None => self.media_workers.claim(status).await?,
                // The acknowledgement of a heartbeat was lost.
                Some(own) if own.value.started_at == status.started_at => {
                    self.media_workers.renew(status, own.revision).await?
                }
                Some(other) => return Err(DuplicateId::from(other.value).into()),
            },
            outcome => outcome?,
        })
    }
}

fn status(calls: &Calls) -> WorkerStatus {
    let (settings, now) = (calls.settings(), ClockReading::now());
    WorkerStatus {
        worker_id: settings.worker_id.clone(),
        calls: u32::try_from(*calls.count().borrow()).unwrap_or(u32::MAX),
        capacity: settings.capacity,
        draining: calls.admission().is_closed(),
        cordoned: *calls.admission().cordoned().borrow(),
        at: settings.started.time_of(now),
        wall: Some(now.wall),
        started_at: settings.started.wall,
        stored_at: None,
    }
}

/// For how long the fleet may have been without an entry of this worker.
struct HeartbeatGap {
    /// When the last stored heartbeat was sent. Its entry expires at the earliest one TTL after that.
    sent_at: Instant,
}

impl HeartbeatGap {
    fn new(now: Instant) -> Self {
        Self { sent_at: now }
    }

    /// Records a stored heartbeat, and returns the longest possible age of the previous entry until then.
    fn heartbeat_stored(&mut self, sent_at: Instant, stored_at: Instant) -> Duration {
        stored_at - std::mem::replace(&mut self.sent_at, sent_at)
    }
}

/// Closes the media of calls that other services ended while this worker counted as dead.
async fn release_ended_calls(calls: &Calls, facts: &FactStore) {
    futures::stream::iter(calls.all())
        .for_each_concurrent(LOOKUPS_MAX, |call| async move {
            release_if_ended(&call, calls, facts).await
        })
        .await;
}

/// Repeats a failed lookup until the call is gone: heartbeats often return in the middle of a leader election.
async fn release_if_ended(call: &Call, calls: &Calls, facts: &FactStore) {
    let call_id = &call.parties.call_id;
    while calls.find(call_id).is_ok() {
        match facts.last(call_id, FactKind::Ended).await {
            Ok(None) => return,
            Ok(Some(_)) => {
                tracing::warn!(%call_id, "call already ended by another service: closing its media");
                return calls::end(call, None).await;
            }
            Err(error) => {
                tracing::warn!(%call_id, %error, "end of the call not read: retrying");
                tokio::time::sleep(LOOKUP_RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_sending_one_heartbeat_to_storing_the_next() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tracker = HeartbeatGap::new(start);
        let heartbeats = [(2, 2, 2), (4, 9, 7), (11, 11, 7), (13, 13, 2)];
        for (sent, stored, gap) in heartbeats {
            assert_eq!(tracker.heartbeat_stored(at(sent), at(stored)), Duration::from_secs(gap));
        }
    }
}
