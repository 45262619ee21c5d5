//! One media-worker process, driven as an edge drives it: commands on NATS, RTP over WebRTC, facts read from the stream.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the rig is test code too: its failure is the test's"
)]

mod rig;

mod capacity;
mod connection;
mod ending;
mod fleet;
mod refusal;
mod silence;
