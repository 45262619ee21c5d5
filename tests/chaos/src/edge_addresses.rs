//! The addresses that clients connect to. A restarted edge has another port, so the injector replaces the list.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::RwLock;

/// The WebSocket addresses of the running edges. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct EdgeAddresses(Arc<RwLock<Vec<SocketAddr>>>);

impl EdgeAddresses {
    /// Replaces the list.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.write() = addresses;
    }

    /// One of them, chosen at random.
    /// Fails if the list is empty.
    pub fn any(&self) -> Result<SocketAddr> {
        let addresses = self.0.read();
        let choice = rand::random::<u32>() as usize % addresses.len().max(1);
        addresses.get(choice).copied().context("there is no edge")
    }
}
