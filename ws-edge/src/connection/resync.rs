//! After a hole in what NATS delivered, every party that is connected here is told afresh where it stands.

use std::time::Duration;

use contract::Party;
use contract::jetstream::connection::Link;
use futures::StreamExt;
use futures::stream;
use service::{BoxError, Condition};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::edge::Edge;
use crate::protocol;

/// Parties that are looked up at once.
const MOST_AT_ONCE: usize = 64;
/// Attempts for one party, over minutes: right after a reconnect JetStream may not answer yet, and elections take their time.
/// Who is given up hears nothing more of a call that is over.
const ATTEMPTS: u32 = 200;
/// Wait before the second attempt; each further one waits as much longer …
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// … up to this.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);

/// Follows the link until `stop` is cancelled.
///
/// # Errors
/// If the connection is given up, which it never is before the service's end.
pub(crate) async fn run(edge: Edge, up: Condition, stop: CancellationToken) -> Result<(), BoxError> {
    let nats = &edge.calls.nats;
    let following = async { tokio::try_join!(nats.follow_link(|is_up| up.set(is_up)), fill_gaps(&edge, nats.link())) };
    match stop.run_until_cancelled(following).await {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) | None => Ok(()),
    }
}

async fn fill_gaps(edge: &Edge, mut link: watch::Receiver<Link>) -> Result<(), watch::error::RecvError> {
    let mut seen = link.borrow_and_update().gaps;
    loop {
        seen = link.wait_for(|link| link.up && link.gaps != seen).await?.gaps;
        // With another hole, what was told so far may be old already: everybody is told again, and no time is lost before.
        tokio::select! {
            () = tell_everybody(edge) => {}
            again = link.wait_for(|link| link.gaps != seen) => drop(again?),
        }
    }
}

async fn tell_everybody(edge: &Edge) {
    let parties = edge.directory.connected();
    metrics::counter!("callpulse_ws_resyncs_total").increment(1);
    tracing::info!(
        parties = parties.len(),
        "there may be a hole in what was delivered: telling everybody where they stand"
    );
    stream::iter(parties)
        .for_each_concurrent(MOST_AT_ONCE, async |party| tell(edge, &party).await)
        .await;
}

async fn tell(edge: &Edge, party: &Party) {
    for attempt in 1..=ATTEMPTS {
        let Some(since) = edge.directory.last_change(party) else {
            return;
        };
        match edge.calls.snapshot(party).await {
            // Also to those who are in no call: they may have missed its end.
            Ok(standing) => {
                let message = protocol::message("snapshot", standing);
                if edge.directory.tell_unless_changed(party, since, &message) {
                    return;
                }
            }
            Err(problem) if attempt == ATTEMPTS => {
                tracing::warn!(%party, %problem, "a party was not told where it stands");
            }
            Err(_) => {}
        }
        tokio::time::sleep((RETRY_DELAY * attempt).min(RETRY_DELAY_MAX)).await;
    }
}
