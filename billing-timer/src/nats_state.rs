//! Reconnections to NATS.

use contract::jetstream::connection_state::ConnectionState;
use tokio::sync::watch;

/// Waits until connected, and returns a future that completes at the next reconnection.
///
/// The client reopens its consumers by itself, but needs up to two heartbeats to notice. Reopening them here is immediate.
pub(crate) async fn until_reconnect(
    nats_state: &watch::Receiver<ConnectionState>,
) -> impl Future<Output = ()> + Send + use<> {
    let mut nats_state = nats_state.clone();
    // An error means that the client is gone.
    let _ = nats_state.wait_for(|state| state.connected).await;
    let seen = nats_state.borrow().connections;
    async move {
        // A client that is gone counts as one.
        let _ = nats_state.wait_for(|state| state.connections != seen).await;
    }
}
