//! One media-worker process, driven as an edge drives it: commands on NATS, RTP over WebRTC, facts read from the stream.

mod rig;

mod connection;
mod ending;
mod fleet;
mod refusal;
mod silence;
