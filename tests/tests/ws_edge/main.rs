//! The edge as its clients meet it: real edges, real sockets, a real server, and a worker where media is asked for.

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
mod limits;

mod failures;

mod pages;

mod ops;

mod settings;
