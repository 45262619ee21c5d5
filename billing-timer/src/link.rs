//! The link to NATS: whether something may have been missed.

use nats::Nats;

/// Connects, and gives what ends when something may have been missed since: a reconnect, or a message dropped.
///
/// The client mends its consumers by itself, but takes up to two heartbeats to notice; making them anew is immediate.
pub(crate) async fn until_gap(nats: &Nats) -> impl Future<Output = ()> + Send + use<> {
    nats.connected().await;
    let mut link = nats.link();
    let seen = link.borrow().gaps;
    async move {
        // An error means that the client is gone, which is a gap as well.
        let _ = link.wait_for(|link| link.gaps != seen).await;
    }
}
