//! The lower bound of a notice's latency: one publication with its acknowledgement, and one WebSocket round trip.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async_with_config};

/// About as long as `rtp_detected` and its notice.
const BYTES: usize = 300;
/// A stream of its own: the stream of facts is for facts.
const STREAM: &str = "BASELINE";
const SUBJECT: &str = "baseline";
/// Samples kept at most.
const MOST_MESSAGES: i64 = 10_000;
/// The deadline for a sample.
const WITHIN: Duration = Duration::from_secs(5);

/// A stream and a WebSocket echo.
#[derive(Debug)]
pub struct Baseline {
    jetstream: jetstream::Context,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    _echo: JoinSet<Result<()>>,
}

impl Baseline {
    /// Creates a file-backed stream on that server, and an echo in this process.
    pub async fn new(client: &async_nats::Client) -> Result<Self> {
        let jetstream = jetstream::new(client.clone());
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            max_messages: MOST_MESSAGES,
            ..Default::default()
        };
        jetstream.get_or_create_stream(config).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut echo = JoinSet::new();
        echo.spawn(async move {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let mut socket = accept_async(stream).await?;
            while let Some(message) = socket.next().await {
                socket.send(message?).await?;
            }
            Ok(())
        });
        let without_nagle = true;
        let (socket, _) = connect_async_with_config(format!("ws://{address}"), None, without_nagle).await?;
        Ok(Self {
            jetstream,
            socket,
            _echo: echo,
        })
    }

    /// One publication until its acknowledgement.
    pub async fn publish(&self) -> Result<Duration> {
        let payload = Bytes::from(vec![b'x'; BYTES]);
        let started = Instant::now();
        let stored = timeout(WITHIN, async { self.jetstream.publish(SUBJECT, payload).await?.await });
        stored.await.context("publishing for the baseline")??;
        Ok(started.elapsed())
    }

    /// One message and its echo.
    pub async fn echo(&mut self) -> Result<Duration> {
        let message = Message::text("x".repeat(BYTES));
        let started = Instant::now();
        let echoed = timeout(WITHIN, async {
            self.socket.send(message.clone()).await?;
            self.socket
                .next()
                .await
                .context("the echo closed")?
                .map_err(anyhow::Error::from)
        });
        let echoed = echoed.await.context("echoing for the baseline")??;
        let elapsed = started.elapsed();
        ensure!(echoed == message, "the echo changed the message");
        Ok(elapsed)
    }
}
