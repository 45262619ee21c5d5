//! Gaps of the connection to NATS.

use contract::jetstream::connection_state::ConnectionState;
use tokio::sync::watch;

/// Waits until connected, and returns a future that completes at the next gap (a reconnect or a dropped message).
///
/// The client reopens its consumers by itself, but needs up to two heartbeats to notice. Reopening them here is immediate.
pub(crate) async fn until_gap(link: &watch::Receiver<ConnectionState>) -> impl Future<Output = ()> + Send + use<> {
    let mut link = link.clone();
    // An error means that the client is gone.
    let _ = link.wait_for(|link| link.connected).await;
    let seen = link.borrow().gaps;
    async move {
        // A client that is gone counts as a gap.
        let _ = link.wait_for(|link| link.gaps != seen).await;
    }
}
