//! The only module that knows mediasoup: its workers, a router for each call and the media of its two parties.

mod worker_pool;

mod listen;
mod tcp_proxy;
mod worker;

mod call_router;
mod first_packet;
mod packet_counter;
mod participant;

mod opus;
mod parameters;

mod refusals;

use contract::Role;

use crate::detection::FirstPacket;
use crate::liveness::ProducerNumber;

pub use call_router::CallRouter;
pub use listen::{ListenAddress, ListenSettings};
pub use packet_counter::PacketCounter;
pub use tcp_proxy::MAX_PENDING;
pub use worker::{DeadWorker, SfuWorkerId, WorkerStartError};
pub use worker_pool::{SfuSettings, WorkerPool};

/// Receives the events of a call's media, on a thread of mediasoup: it must neither block nor panic.
pub trait Observer: Send + Sync {
    /// A packet with a payload arrived: the first one of a producer, or the first one after a loss.
    fn first_packet(&self, producer: ProducerNumber, packet: FirstPacket);
    /// The transport of a producer is closed.
    fn transport_lost(&self, role: Role, producer: ProducerNumber);
}

#[cfg(test)]
mod tests;
