//! One socket from its upgrade to its close, and what the sockets of a party share.
//!
//! [`session`] serves a socket: what it reads goes through `intake`, what it writes waits in the [`send_queue`].
//! [`registry`] subscribes to each connected party's notices and hands them to the party's sockets; `resync` sends every
//! connected party a new snapshot when NATS may have lost notices.

pub mod session;

mod intake;
pub mod send_queue;

pub mod registry;
pub(crate) mod resync;

use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::settings::Limits;
use registry::ConnectionRegistry;

/// The dependencies of the parties' sockets.
pub struct Deps {
    /// The limits of each socket.
    pub limits: Limits,
    /// The parties that are connected here.
    pub registry: ConnectionRegistry,
    /// Carries requests out.
    pub calls: Calls,
    /// Tracks requests; the node's shutdown waits for them.
    pub tracker: TaskTracker,
}
