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
