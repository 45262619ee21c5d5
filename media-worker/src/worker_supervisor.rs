//! Replaces mediasoup workers that die.

use std::sync::Arc;
use std::time::Duration;

use contract::EndReason;
use futures::StreamExt;
use service::{BoxError, Condition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls};
use crate::clock_reading::ClockReading;
use crate::metrics;
use crate::sfu::{DeadWorker, WorkerPool};

/// Attempts to start a replacement; after the last one the process exits, and its own supervisor starts another.
const ATTEMPTS_MAX: u32 = 8;
/// The pause after the first failed attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Calls that are ended at the same time.
const ENDED_CALLS_MAX: usize = 32;

/// Ends the calls of each dead worker and starts a replacement, until `drained`. `all_alive` is the readiness condition.
///
/// # Errors
/// No replacement could be started.
pub async fn run(
    pool: Arc<WorkerPool>,
    calls: Arc<Calls>,
    mut deaths: mpsc::Receiver<DeadWorker>,
    all_alive: Condition,
    drained: CancellationToken,
) -> Result<(), BoxError> {
    metrics::set_sfu_workers(pool.alive());
    while let Some(Some(dead)) = drained.run_until_cancelled(deaths.recv()).await {
        all_alive.set(false);
        metrics::sfu_worker_died();
        pool.remove(&dead);
        metrics::set_sfu_workers(pool.alive());
        tracing::error!(
            sfu_worker = dead.id,
            reason = dead.reason,
            "mediasoup worker died: ending its calls and starting another"
        );
        futures::stream::iter(calls.on_sfu_worker(dead.id))
            .for_each_concurrent(ENDED_CALLS_MAX, |call| async move {
                let ended = call.last_rtp().unwrap_or_else(ClockReading::now);
                let end = call.end_by_worker(EndReason::WorkerLost, ended);
                calls::end(&call, Some(end)).await;
            })
            .await;
        replace(&pool, dead.slot).await?;
        metrics::set_sfu_workers(pool.alive());
        all_alive.set(pool.is_complete());
    }
    Ok(())
}

async fn replace(pool: &WorkerPool, slot: u16) -> Result<(), BoxError> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match pool.start_worker(slot).await {
            Ok(()) => break,
            Err(error) if attempt < ATTEMPTS_MAX => {
                tracing::warn!(%error, attempt, "mediasoup worker does not start: retrying");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}
