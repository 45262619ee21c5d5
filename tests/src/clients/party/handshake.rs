//! The handshake with an edge, valid or not.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::ANSWERED_WITHIN;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The parts of a handshake.
#[derive(Debug, Clone, Default)]
pub struct Handshake {
    /// `Authorization: Bearer …`.
    pub bearer: Option<String>,
    /// `Sec-WebSocket-Protocol`, in which browsers send their token.
    pub subprotocols: Vec<String>,
    /// `Origin`.
    pub origin: Option<String>,
    /// Path and query; `/ws` if empty.
    pub path: String,
}

impl Handshake {
    /// With a token in the header, like a native client.
    pub fn bearer(token: String) -> Self {
        Self {
            bearer: Some(token),
            ..Self::default()
        }
    }

    /// With a token as a subprotocol, like a browser.
    pub fn browser(token: &str) -> Self {
        Self {
            subprotocols: vec!["callpulse.v1".to_owned(), format!("bearer.{token}")],
            ..Self::default()
        }
    }
}

/// The outer error is a timeout, the inner one a rejection.
pub(super) async fn open(edge: SocketAddr, handshake: &Handshake) -> Result<Result<Socket, tungstenite::Error>> {
    let path = if handshake.path.is_empty() {
        "/ws"
    } else {
        &handshake.path
    };
    let mut request = ClientRequestBuilder::new(format!("ws://{edge}{path}").parse()?);
    if let Some(token) = &handshake.bearer {
        request = request.with_header("Authorization", format!("Bearer {token}"));
    }
    if let Some(origin) = &handshake.origin {
        request = request.with_header("Origin", origin);
    }
    for subprotocol in &handshake.subprotocols {
        request = request.with_sub_protocol(subprotocol);
    }
    let without_nagle = true;
    let opened = timeout(ANSWERED_WITHIN, connect_async_with_config(request, None, without_nagle)).await;
    let opened = opened.with_context(|| format!("no handshake with {edge} within {ANSWERED_WITHIN:?}"))?;
    Ok(opened.map(|(socket, _)| socket))
}
