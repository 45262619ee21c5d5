//! The link to NATS: whether something may have been missed.

use contract::jetstream::connection::Link;
use tokio::sync::watch;

/// Connects, and gives what ends when something may have been missed since: a reconnect, or a message dropped.
///
/// The client mends its consumers by itself, but takes up to two heartbeats to notice; making them anew is immediate.
pub(crate) async fn until_gap(link: &watch::Receiver<Link>) -> impl Future<Output = ()> + Send + use<> {
    let mut link = link.clone();
    // An error means that the client is gone.
    let _ = link.wait_for(|link| link.up).await;
    let seen = link.borrow().gaps;
    async move {
        // That the client is gone is a gap as well.
        let _ = link.wait_for(|link| link.gaps != seen).await;
    }
}
