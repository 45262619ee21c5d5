//! Notices to the parties of a call: `tick` after a tick is stored, `call_ended` after the settlement is stored.

use std::fmt::Debug;

use contract::wire::notice::{self, Notice};
use contract::{Nats, Parties};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Sends notices.
pub trait Notices: Debug + Send + Sync {
    /// Sends a notice to both parties; see [`notice::tell_both`].
    fn send_to_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()>;
}

impl Notices for Nats {
    fn send_to_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()> {
        notice::tell_both(&self.notice_publisher, parties, notice).boxed()
    }
}
