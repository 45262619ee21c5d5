//! The one loop that looks at every call's packet counters, once an interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use service::BoxError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Call, Calls};
use crate::meters;

/// Calls that are looked at side by side. Many: with a C++ worker that hangs, the round must not take so long that it
/// passes for our own absence.
const SIDE_BY_SIDE: usize = 256;
/// The least patience with one counter, whatever the interval.
const PATIENCE_MIN: Duration = Duration::from_millis(250);

/// Looks at all calls until `over`.
///
/// # Errors
/// None.
pub async fn run(calls: Arc<Calls>, over: CancellationToken) -> Result<(), BoxError> {
    let interval = calls.rules().limits.sample_interval;
    let patience = (interval / 4).max(PATIENCE_MIN);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while over.run_until_cancelled(ticks.tick()).await.is_some() {
        let started = Instant::now();
        futures::stream::iter(calls.all())
            .for_each_concurrent(SIDE_BY_SIDE, |call| look(call, patience))
            .await;
        meters::sampled(started.elapsed());
    }
    Ok(())
}

async fn look(call: Arc<Call>, patience: Duration) {
    if let Some(fate) = call.look(patience).await {
        let ending = call.ending(fate);
        calls::end(&call, Some(ending)).await;
    }
}
