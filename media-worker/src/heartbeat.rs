//! The worker's heartbeats in the fleet bucket, and the recovery after a time without them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::buckets::fleet::{Fleet, WorkerStatus};
use contract::jetstream::storage::WORKER_TTL;
use contract::wire::fact::FactKind;
use contract::{FactStore, Nats, Timestamp};
use futures::StreamExt;
use service::BoxError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Call, Calls};

/// Calls whose end is looked up at the same time after missed heartbeats.
const LOOKUPS_MAX: usize = 16;
/// The pause before a failed lookup is repeated.
const LOOKUP_RETRY: Duration = Duration::from_secs(1);

/// The dependencies of the heartbeat.
pub struct Heartbeat {
    /// The connection; without it no heartbeat is attempted.
    pub nats: Nats,
    /// The bucket of heartbeats.
    pub fleet: Fleet,
    /// The stream, to look up calls that ended meanwhile.
    pub facts: FactStore,
    /// The calls to report.
    pub calls: Arc<Calls>,
    /// The time between two heartbeats.
    pub interval: Duration,
}

impl Heartbeat {
    /// Sends heartbeats until `drained`, and one at once when `stop` closes the worker to new calls.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, stop: CancellationToken, drained: CancellationToken) -> Result<(), BoxError> {
        let started_at = Timestamp::now();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tracker, mut stopping) = (HeartbeatGap::new(Instant::now()), false);
        loop {
            tokio::select! {
                () = drained.cancelled() => return Ok(()),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    // Before the heartbeat that announces it.
                    self.calls.admission().start_draining();
                }
                _ = ticks.tick() => {}
            }
            if !self.nats.state().borrow().connected {
                continue;
            }
            let sent_at = Instant::now();
            match self.fleet.put_heartbeat(&self.status(started_at)).await {
                Ok(()) => {
                    let gap = tracker.heartbeat_stored(sent_at, Instant::now());
                    if gap >= WORKER_TTL {
                        tracing::warn!(
                            ?gap,
                            "heartbeats missed: looking up calls that other services have ended"
                        );
                        let (calls, facts, drained) = (Arc::clone(&self.calls), self.facts.clone(), drained.clone());
                        tokio::spawn(
                            async move { drained.run_until_cancelled(release_ended_calls(&calls, &facts)).await },
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "heartbeat failed: trying again at the next interval"),
            }
        }
    }

    fn status(&self, started_at: Timestamp) -> WorkerStatus {
        let settings = self.calls.settings();
        WorkerStatus {
            worker_id: settings.worker_id.clone(),
            calls: u32::try_from(*self.calls.count().borrow()).unwrap_or(u32::MAX),
            capacity: settings.capacity,
            draining: self.calls.admission().is_closed(),
            at: Timestamp::now(),
            started_at,
        }
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
                tracing::warn!(%call_id, %error, "end of the call not readable: trying again");
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
