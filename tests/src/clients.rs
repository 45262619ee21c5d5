//! The parties of a call, WebSocket and WebRTC clients, and viewers of the operations feed.

pub mod party;

pub mod opus;
pub mod padding;
pub mod transport;

pub mod caller;

pub mod conversation;

pub mod viewer;
