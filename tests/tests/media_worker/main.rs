//! One media-worker process: commands on NATS like an edge, RTP over WebRTC, facts from the stream.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod fixture;

mod capacity;
mod connection;
mod cost;
mod credit;
mod datagrams;
mod ending;
mod fleet;
mod ice_restart;
mod last_packet;
mod refusal;
mod silence;
mod tcp;
