//! Notices to the parties of a call: `tick` after a tick is stored, `call_ended` after the settlement is stored.

use std::fmt::Debug;

use contract::wire::notice::Notice;
use contract::{Nats, Parties};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Sends notices.
pub trait Notices: Debug + Send + Sync {
    /// Sends a notice to both parties; see [`NoticePublisher::publish`](contract::jetstream::notice_publisher::NoticePublisher::publish).
    fn send_to_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()>;
}

impl Notices for Nats {
    fn send_to_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()> {
        self.notice_publisher.publish_to_both(parties, notice).boxed()
    }
}
