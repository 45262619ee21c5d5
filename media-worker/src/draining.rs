//! The shutdown of the process: calls may go on until they end or the drain timeout is near.

use std::sync::Arc;
use std::time::Duration;

use contract::EndReason;
use futures::StreamExt;
use service::BoxError;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls};
use crate::clock_reading::ClockReading;

/// The part of the drain timeout, at most two thirds of it, that is kept for storing the ends of the remaining calls. A
/// cluster without a leader stores nothing for up to 10 s, and hundreds of calls are thousands of writes, each on disk
/// before it is acknowledged.
const STORING_TIME: Duration = Duration::from_secs(12);
/// Calls that are ended at the same time.
const ENDED_CALLS_MAX: usize = 64;

/// Waits for `stop`, then for the calls; ends the remaining calls in time before `timeout`, and cancels `drained` when
/// all ends are stored.
///
/// # Errors
/// None.
pub async fn run(
    calls: Arc<Calls>,
    timeout: Duration,
    stop: CancellationToken,
    drained: CancellationToken,
) -> Result<(), BoxError> {
    stop.cancelled().await;
    calls.admission().start_draining();
    let mut count = calls.count();
    tracing::info!(calls = *count.borrow(), "draining: waiting for calls to end");
    let grace = timeout - STORING_TIME.min(timeout * 2 / 3);
    if tokio::time::timeout(grace, count.wait_for(|count| *count == 0))
        .await
        .is_err()
    {
        let remaining = *count.borrow();
        tracing::warn!(calls = remaining, "drain time used up: ending the remaining calls");
        // If NATS stays unreachable, the drain deadline of the `service` crate ends this wait.
        end_all(&calls, EndReason::WorkerShutdown).await;
    }
    drained.cancel();
    Ok(())
}

/// Ends all calls, and waits until their ends are stored.
pub(crate) async fn end_all(calls: &Calls, reason: EndReason) {
    futures::stream::iter(calls.all())
        .for_each_concurrent(ENDED_CALLS_MAX, |call| async move {
            let end = call.end_by_worker(reason, ClockReading::now());
            calls::end(&call, Some(end)).await;
        })
        .await;
    let _ = calls.count().wait_for(|count| *count == 0).await;
}
