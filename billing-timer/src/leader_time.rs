//! Asks the leader of the stream `CALLS` for its time, for [`crate::server_clock`].

use std::time::Duration;

use service::BoxError;
use tokio_util::sync::CancellationToken;

use crate::deps::Deps;
use crate::metrics;

/// Time between two requests.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks until `stop`: at the start, at every interval, and when the connection has changed.
pub(crate) async fn follow(deps: Deps, stop: CancellationToken) -> Result<(), BoxError> {
    let mut nats_state = deps.nats_state.clone();
    loop {
        let sent = deps.clock.instant();
        match stop.run_until_cancelled(deps.facts.leader_time()).await {
            Some(Ok(time)) => {
                deps.server_clock.sample(time, sent, deps.clock.instant());
                metrics::clock_difference(deps.server_now(), deps.clock.now());
            }
            Some(Err(error)) => tracing::debug!(%error, "time of the leader not read"),
            None => return Ok(()),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Ok(()) = nats_state.changed() => {}
            () = deps.clock.sleep(INTERVAL) => {}
        }
    }
}
