//! The harness of callpulse's end-to-end tests and its demo: real processes, real NATS, real sockets, real RTP.
//!
//! Bounded waits: [`wait`], [`inbox`]. Processes: [`child`], [`nats_server`], [`process`], [`stack`], and proxies between them: [`proxy`],
//! [`links`]. Clients: [`party`] with a [`token`], [`caller`] on WebRTC ([`transport`], [`opus`], [`padding`]), [`conversation`] of two.
//! Facts: [`builders`], [`contract_client`], [`facts`], [`record`]. Programs: [`demo`], [`up`].
//!
//! It reads the wire as an outsider does: JSON values on the WebSocket, never the services' own types.

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

pub mod interrupt;

pub mod demo;
pub mod up;
