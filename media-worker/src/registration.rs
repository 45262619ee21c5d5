//! The worker's sign of life in the fleet, and what it does after it could not give one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use nats::fact::FactKind;
use nats::fleet::{Fleet, WorkerStatus};
use nats::storage::WORKER_TTL;
use nats::{Nats, Timestamp};
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
    let (mut last_beat, mut told_stop) = (Instant::now(), false);
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
        // Before it is sent: the entry lives from some moment after that, and may have expired before its successor came.
        let sent_at = Instant::now();
        match fleet.beat(&status(&calls, started_at)).await {
            Ok(()) => {
                let absence = last_beat.elapsed();
                last_beat = sent_at;
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
