//! The harness behind callpulse's end-to-end tests and its demo: real processes, real NATS, real sockets, real RTP.
//!
//! From the ground up: bounded waiting ([`wait`], [`inbox`]), processes that never outlive a test ([`child`]), a
//! server or a cluster of its own for each test ([`nats_server`]) and cables to it that can be cut ([`proxy`], [`links`]), the
//! services beside it ([`process`], [`stack`]), and who uses them: a [`party`] on a WebSocket with a [`token`], a [`caller`]
//! on WebRTC ([`transport`], [`opus`], [`padding`]), and a reader of the stored [`facts`] and of a call's whole [`record`].
//! [`conversation`] brings two of them into a call.
//!
//! [`demo`] plays a whole call on it beside its [`floor`], [`up`] keeps it running for a developer.
//!
//! It reads the wire as an outsider would: JSON values on the WebSocket, never the services' own types.

pub mod inbox;
pub mod wait;

pub mod child;
pub mod nats_server;
pub mod process;

pub mod links;
pub mod proxy;

pub mod party;
pub mod token;

pub mod opus;
pub mod padding;
pub mod transport;

pub mod builders;
pub mod contract_client;

pub mod caller;
pub mod conversation;
pub mod facts;
pub mod record;
pub mod stack;

pub mod floor;
pub mod interrupt;

pub mod demo;
pub mod up;
