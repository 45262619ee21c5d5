//! The links of one process to NATS: a proxy to each server, so that this process alone can be disconnected.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use futures::future::try_join_all;

use crate::servers::nats_server::NatsServer;
use crate::servers::proxy::Proxy;

/// The proxies of one process, one per server. Processes and servers may restart.
#[derive(Debug)]
pub struct Links {
    proxies: Vec<Proxy>,
}

impl Links {
    /// Creates a proxy to every server, running or not.
    pub async fn to(nats: &NatsServer) -> Result<Self> {
        let proxies = nats
            .ports()
            .map(|port| Proxy::to(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        let proxies = try_join_all(proxies).await?;
        Ok(Self { proxies })
    }

    /// The URLs for the process, separated by commas.
    pub fn url(&self) -> String {
        let urls = self.proxies.iter().map(|proxy| format!("nats://{}", proxy.address()));
        urls.collect::<Vec<_>>().join(",")
    }

    /// The proxy to one server.
    pub fn node(&self, index: usize) -> Result<&Proxy> {
        self.proxies.get(index).with_context(|| format!("no server {index}"))
    }

    /// [`Proxy::cut`] to every server.
    pub fn cut(&self) {
        self.proxies.iter().for_each(Proxy::cut);
    }

    /// [`Proxy::stall`] to every server.
    pub fn stall(&self) {
        self.proxies.iter().for_each(Proxy::stall);
    }

    /// [`Proxy::restore`] to every server.
    pub fn restore(&self) {
        self.proxies.iter().for_each(Proxy::restore);
    }
}
