//! The end of the process: calls may go on until they end or the time is up.

use std::sync::Arc;
use std::time::Duration;

use contract::{EndReason, Timestamp};
use futures::StreamExt;
use service::BoxError;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls, Fate};

/// Kept of the drain's time for storing the ends of the calls that are left, at most two thirds of it. A cluster that lost
/// its leader stores nothing for up to 10 s; and hundreds of calls are thousands of writes, each on the disk before it is
/// acknowledged.
const RESERVE: Duration = Duration::from_secs(12);
/// Calls that are ended side by side.
const SIDE_BY_SIDE: usize = 64;

/// Waits for `stop`, then for the calls; ends what is left in time before `timeout`, and cancels `over` when all is
/// stored.
///
/// # Errors
/// None.
pub async fn run(
    calls: Arc<Calls>,
    timeout: Duration,
    stop: CancellationToken,
    over: CancellationToken,
) -> Result<(), BoxError> {
    stop.cancelled().await;
    calls.drain();
    let mut count = calls.count();
    tracing::info!(calls = *count.borrow(), "draining");
    let patience = timeout - RESERVE.min(timeout * 2 / 3);
    if tokio::time::timeout(patience, count.wait_for(|count| *count == 0))
        .await
        .is_err()
    {
        let left = calls.all();
        tracing::warn!(calls = left.len(), "ending the calls that are left");
        futures::stream::iter(left)
            .for_each_concurrent(SIDE_BY_SIDE, |call| async move {
                let fate = Fate {
                    reason: EndReason::WorkerShutdown,
                    ended_at: Timestamp::now(),
                };
                calls::end(&call, Some(call.ending(fate))).await;
            })
            .await;
        // If NATS stays away, the drain's deadline ends this wait.
        let _ = count.wait_for(|count| *count == 0).await;
    }
    over.cancel();
    Ok(())
}
