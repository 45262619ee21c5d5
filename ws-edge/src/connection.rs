//! One socket from its upgrade to its close, and what the sockets of a party share.
//!
//! [`session`] serves a socket: received requests wait in the `request_queue`, messages to the client in the [`send_queue`].
//! [`registry`] subscribes to each connected party's notices, which [`notice_subscriber`] hands to the party's sockets; `resync` sends
//! every connected party a new snapshot when NATS may have lost notices. [`staggered_close`] closes the sockets of a node that stops.

pub mod handshake_limiter;
pub mod rate_limited_stream;
pub mod session;

mod request_queue;
pub mod send_queue;

pub mod notice_subscriber;
pub mod registry;
pub(crate) mod resync;
pub mod staggered_close;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::calls::handler::RequestHandler;
use crate::calls::snapshot::SnapshotReader;
use crate::handshake::token::Tokens;
use crate::settings::Limits;
use registry::ConnectionRegistry;

/// The dependencies of the parties' sockets.
pub struct Deps {
    /// The limits of each socket.
    pub limits: Limits,
    /// The parties that are connected here.
    pub registry: ConnectionRegistry,
    /// Reads the state of a party's call.
    pub snapshots: SnapshotReader,
    /// Carries requests out.
    pub handler: RequestHandler,
    /// Verifies the tokens with which clients keep their sockets open.
    pub tokens: Arc<Tokens>,
    /// Tracks requests and their clean-up; the node's shutdown waits for them.
    pub tracker: TaskTracker,
}
