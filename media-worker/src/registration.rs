//! The worker's sign of life in the fleet, and what it does after it could not give one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::buckets::fleet::{Fleet, WorkerStatus};
use contract::jetstream::storage::WORKER_TTL;
use contract::wire::fact::FactKind;
use contract::{Nats, Timestamp};
use futures::StreamExt;
use service::BoxError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls};

/// Calls that are looked up side by side after an absence.
const SIDE_BY_SIDE: usize = 16;
/// Until a call is looked up again that could not be.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Says every `interval` that the worker is alive, until `over`; at once when it begins to `stop`.
///
/// # Errors
/// None.
pub async fn run(
    nats: Nats,
    fleet: Fleet,
    calls: Arc<Calls>,
    interval: Duration,
    stop: CancellationToken,
    over: CancellationToken,
) -> Result<(), BoxError> {
    let started_at = Timestamp::now();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut pulse, mut told_stop) = (Pulse::new(Instant::now()), false);
    loop {
        tokio::select! {
            () = over.cancelled() => return Ok(()),
            () = stop.cancelled(), if !told_stop => {
                told_stop = true;
                // Before it is said, so that nothing is refused which was not announced, but by a race.
                calls.drain();
            }
            _ = ticks.tick() => {}
        }
        if !nats.link().borrow().up {
            continue;
        }
        let sent_at = Instant::now();
        match fleet.beat(&status(&calls, started_at)).await {
            Ok(()) => {
                let absence = pulse.beat(sent_at, Instant::now());
                if absence >= WORKER_TTL {
                    tracing::warn!(?absence, "counted as dead for a while: others may have ended calls");
                    let (calls, over) = (Arc::clone(&calls), over.clone());
                    tokio::spawn(async move { over.run_until_cancelled(release_ended(&calls)).await });
                }
            }
            Err(error) => tracing::warn!(%error, "a sign of life was not given"),
        }
    }
}

/// When the worker was last heard of for sure.
struct Pulse {
    /// The last beat that was stored began to be sent. Its entry lives from some moment after that.
    sent_at: Instant,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { sent_at: now }
    }

    /// A beat was sent and is stored: for how long there may have been no entry but the one before.
    fn beat(&mut self, sent_at: Instant, stored_at: Instant) -> Duration {
        stored_at - std::mem::replace(&mut self.sent_at, sent_at)
    }
}

fn status(calls: &Calls, started_at: Timestamp) -> WorkerStatus {
    WorkerStatus {
        worker_id: calls.rules().worker_id.clone(),
        calls: u32::try_from(*calls.count().borrow()).unwrap_or(u32::MAX),
        capacity: calls.rules().capacity,
        draining: calls.takes_none(),
        at: Timestamp::now(),
        started_at,
    }
}

/// Stops the media of calls that somebody ended while this worker was thought dead. Asks until it knows: an absence often
/// ends in the middle of an election.
async fn release_ended(calls: &Calls) {
    futures::stream::iter(calls.all())
        .for_each_concurrent(SIDE_BY_SIDE, |call| async move {
            while calls.find(&call.parties.call_id).is_ok() {
                match calls.post().facts().last(&call.parties.call_id, FactKind::Ended).await {
                    Ok(None) => return,
                    Ok(Some(_)) => {
                        tracing::warn!(call_id = %call.parties.call_id, "was ended by somebody else meanwhile");
                        return calls::end(&call, None).await;
                    }
                    Err(error) => {
                        tracing::warn!(call_id = %call.parties.call_id, %error, "cannot tell yet if it was ended");
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_counts_from_the_sending_of_one_beat_to_the_storing_of_the_next() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(start);
        let beats = [(2, 2, 2), (4, 9, 7), (11, 11, 7), (13, 13, 2)];
        for (sent, stored, absence) in beats {
            assert_eq!(pulse.beat(at(sent), at(stored)), Duration::from_secs(absence));
        }
    }
}
