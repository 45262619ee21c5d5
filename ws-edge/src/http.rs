//! Connections from `accept` to their first request: a page of the node's own, or the upgrade to a WebSocket.

pub mod address_limiter;
pub mod connection_limiter;

pub mod listener;
pub mod pages;
