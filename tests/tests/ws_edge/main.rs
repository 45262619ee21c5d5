//! Real edges with real sockets and a real nats-server, and a worker where a test needs media.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share is test code too"
)]

mod common;

mod signalling;

mod races;

mod bad_input;
mod codes;
mod handshake;
mod limits;

mod failures;

mod pages;

mod forward_compatibility;
mod ops;

mod settings;
mod tls;
mod tokens;
