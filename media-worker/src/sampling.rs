//! The loop that samples the packet counters of all calls, once per interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use service::BoxError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls};
use crate::metrics;

/// Calls that are sampled at the same time. Many: when a mediasoup worker hangs, a round must not take so long that
/// liveness takes it for a pause of this process.
const SAMPLED_CALLS_MAX: usize = 256;
/// The shortest timeout for one counter, whatever the interval.
const COUNTER_TIMEOUT_MIN: Duration = Duration::from_millis(250);

/// Samples all calls until `drained`.
///
/// # Errors
/// None.
pub async fn run(calls: Arc<Calls>, drained: CancellationToken) -> Result<(), BoxError> {
    let interval = calls.settings().timeouts.sample_interval;
    let timeout = (interval / 4).max(COUNTER_TIMEOUT_MIN);
    let mut sample_timer = tokio::time::interval(interval);
    sample_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while drained.run_until_cancelled(sample_timer.tick()).await.is_some() {
        let started = Instant::now();
        futures::stream::iter(calls.all())
            .for_each_concurrent(SAMPLED_CALLS_MAX, |call| async move {
                if let Some(end) = call.sample(timeout).await {
                    tokio::spawn(async move { calls::end(&call, Some(end)).await });
                }
            })
            .await;
        metrics::sampling_round(started.elapsed());
        metrics::set_call_phases(calls.all().iter().map(|call| call.phase()));
    }
    Ok(())
}
