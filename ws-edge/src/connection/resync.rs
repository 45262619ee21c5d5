//! Sends every connected party a new snapshot after NATS may have lost notices.

use std::sync::Arc;
use std::time::Duration;

use contract::jetstream::connection_state::ConnectionState;
use contract::{Nats, Party};
use futures::StreamExt;
use futures::stream;
use service::{BoxError, Condition};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Deps;
use super::notice_subscriber::NoticeSubscriber;
use crate::metrics;
use crate::protocol;

/// Parties whose snapshots are read at once.
const MAX_CONCURRENT: usize = 64;
/// Attempts per party, over minutes: right after a reconnect JetStream may not answer yet, and elections take time. Without a
/// snapshot, a party does not learn of a call that has ended meanwhile.
const ATTEMPTS: u32 = 200;
/// Wait before the second attempt; each further wait is longer by as much …
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// … up to this.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);

/// Follows both connections to NATS until `stop` is cancelled, and sets `up` while they are up.
///
/// # Errors
/// If a NATS client is dropped, which does not happen before the service ends.
pub(crate) async fn run(
    deps: Arc<Deps>,
    nats: Nats,
    notices: NoticeSubscriber,
    up: Condition,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let resync_all = || async {
        // The snapshots are read over the other connection, so the subscriptions must be there before.
        notices.confirmed().await;
        resync_all(&deps).await;
    };
    let following = async { tokio::try_join!(report(&nats, &notices, &up), fill_gaps(notices.state(), resync_all)) };
    match stop.run_until_cancelled(following).await {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) | None => Ok(()),
    }
}

async fn report(nats: &Nats, notices: &NoticeSubscriber, up: &Condition) -> Result<(), watch::error::RecvError> {
    let (mut nats, mut notices) = (nats.state(), notices.state());
    loop {
        let is_up = nats.borrow_and_update().connected && notices.borrow_and_update().connected;
        up.set(is_up);
        tokio::select! {
            changed = nats.changed() => changed?,
            changed = notices.changed() => changed?,
        }
    }
}

async fn fill_gaps<F: Future<Output = ()>>(
    mut nats_state: watch::Receiver<ConnectionState>,
    resync_all: impl Fn() -> F,
) -> Result<(), watch::error::RecvError> {
    // Notices are delivered by plain subscriptions, so overflows count too.
    let interruptions = |nats_state: &ConnectionState| (nats_state.connections, nats_state.overflows);
    let mut seen = interruptions(&nats_state.borrow_and_update());
    loop {
        let state = *nats_state
            .wait_for(|nats_state| nats_state.connected && interruptions(nats_state) != seen)
            .await?;
        seen = interruptions(&state);
        // After another connection the snapshots sent so far may be out of date: start over at once. An overflow waits until every
        // party has one: if overflows continue, those that come last would never get theirs.
        tokio::select! {
            () = resync_all() => {}
            again = nats_state.wait_for(|nats_state| nats_state.connections != state.connections) => drop(again?),
        }
    }
}

async fn resync_all(deps: &Deps) {
    let parties = deps.registry.connected();
    metrics::resync();
    tracing::info!(
        parties = parties.len(),
        "notices may have been lost: sending every connected party a snapshot"
    );
    stream::iter(parties)
        .for_each_concurrent(MAX_CONCURRENT, async |party| resync(deps, &party).await)
        .await;
}

async fn resync(deps: &Deps, party: &Party) {
    for attempt in 1..=ATTEMPTS {
        let Some(since) = deps.registry.call_state_version(party) else {
            return;
        };
        match deps.snapshots.read(party).await {
            // Parties without a call get one too: they may have missed their call's end.
            Ok(snapshot) => {
                let message = protocol::message("snapshot", snapshot);
                if deps.registry.send_if_unchanged(party, since, &message) {
                    return;
                }
            }
            Err(problem) if attempt == ATTEMPTS => {
                tracing::warn!(%party, %problem, "snapshot not sent: storage does not answer; check JetStream");
            }
            Err(_) => {}
        }
        tokio::time::sleep((RETRY_DELAY * attempt).min(RETRY_DELAY_MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_overflow_waits_until_all_parties_have_a_snapshot_and_a_new_connection_starts_over() {
        let (nats_state, followed) = watch::channel(ConnectionState {
            connected: true,
            ..ConnectionState::default()
        });
        let (started, finished) = (Cell::new(0), Cell::new(0));
        let resync_all = || async {
            started.set(started.get() + 1);
            tokio::time::sleep(Duration::from_secs(10)).await;
            finished.set(finished.get() + 1);
        };
        let events = async {
            let count = || (started.get(), finished.get());
            let pause = || tokio::time::sleep(Duration::from_secs(1));
            nats_state.send_modify(|nats_state| nats_state.connections += 1);
            for _ in 0..5 {
                pause().await;
                nats_state.send_modify(|nats_state| nats_state.overflows += 1);
            }
            assert_eq!(count(), (1, 0));
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(count(), (2, 1), "one more round for all overflows");
            nats_state.send_modify(|nats_state| nats_state.connections += 1);
            pause().await;
            assert_eq!(count(), (3, 1));
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(count(), (3, 2));
        };
        tokio::select! {
            // First, because it follows what changes after its start.
            biased;
            _ = fill_gaps(followed, resync_all) => panic!("the sender is gone"),
            () = events => {}
        }
    }
}
