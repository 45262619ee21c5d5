//! The link to NATS: whether it is up, and whether something may have been missed.

use nats::Nats;
use service::{BoxError, Condition};
use tokio_util::sync::CancellationToken;

/// Keeps the condition as the link is, until `stop`.
pub(crate) async fn watch(nats: Nats, connected: Condition, stop: CancellationToken) -> Result<(), BoxError> {
    let mut link = nats.link();
    loop {
        connected.set(link.borrow_and_update().up);
        match stop.run_until_cancelled(link.changed()).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Ok(()),
        }
    }
}

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
