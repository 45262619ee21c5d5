//! Thousands of WebSocket clients in one thread, as light as they can be: the machine is for the server.
//!
//! They read frames as RFC 6455 has them, answer pings, and take the time of sending from the end of a notice (see
//! [`notice_source`](crate::notice_source)). nats-server's own listener speaks the NATS protocol inside of frames.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use callpulse_tests::wait::eventually;
use rustix::process::nice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::histogram::Histogram;
use crate::notice_source::{SENT_BYTES, sent_at};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// A pong without payload, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
const READ_BYTES: usize = 2048;
/// The receive buffer of a client that does not read.
const SMALL_BUFFER: u32 = 4096;
const HALF_A_REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: localhost\r\n";
/// The nice value of clients in the background.
const LOWEST_PRIORITY: i32 = 19;
/// One in so many may be lost.
const MAX_LOST: u64 = 500;

/// What a server speaks inside of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Messages of `docs/src/protocol.md`.
    Callpulse,
    /// The NATS client protocol.
    Nats,
}

/// A client's name and token.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user's ID.
    pub user: String,
    /// A valid token.
    pub token: String,
}

/// What all clients saw.
#[derive(Debug)]
pub struct Seen {
    /// The clock of the notices.
    pub epoch: Instant,
    /// From publication to reception.
    pub latency: Histogram,
    /// Notices received.
    pub notices: AtomicU64,
    /// Clients that can receive notices.
    pub welcomed: AtomicU64,
    /// Clients whose connection failed or ended.
    pub lost: AtomicU64,
}

/// The clients. Dropping them closes all sockets.
#[derive(Debug)]
pub struct Clients {
    /// What they saw.
    pub seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

impl Clients {
    /// None yet.
    pub fn new() -> Result<Self> {
        Self::with_nice(0)
    }

    /// None yet. They stand for other machines: their thread gets only the processor time that the server and the measured clients
    /// leave.
    pub fn in_background() -> Result<Self> {
        Self::with_nice(LOWEST_PRIORITY)
    }

    fn with_nice(increment: i32) -> Result<Self> {
        let lower_priority = move || {
            // On Linux, it is that of the calling thread, and may always be lowered.
            let _ = nice(increment);
        };
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime
            .worker_threads(1)
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        let seen = Seen {
            epoch: Instant::now(),
            latency: Histogram::default(),
            notices: AtomicU64::default(),
            welcomed: AtomicU64::default(),
            lost: AtomicU64::default(),
        };
        Ok(Self {
            seen: Arc::new(seen),
            runtime: Some(runtime),
        })
    }

    /// Connects all of these at once.
    pub fn connect(&self, address: SocketAddr, protocol: Protocol, identities: &[Identity]) {
        let Some(runtime) = &self.runtime else { return };
        for identity in identities {
            let (seen, identity) = (Arc::clone(&self.seen), identity.clone());
            runtime.spawn(async move {
                let _ = async {
                    let stream = TcpStream::connect(address).await?;
                    serve(&seen, stream, address, protocol, identity, Reading::All).await
                }
                .await;
                seen.lost.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    /// Connects clients that read nothing after their welcome, with small buffers in the kernel.
    pub fn connect_without_reading(&self, address: SocketAddr, identities: &[Identity]) {
        let Some(runtime) = &self.runtime else { return };
        for identity in identities {
            let (seen, identity) = (Arc::clone(&self.seen), identity.clone());
            runtime.spawn(async move {
                let _ = async {
                    let socket = TcpSocket::new_v4()?;
                    socket.set_recv_buffer_size(SMALL_BUFFER)?;
                    let stream = socket.connect(address).await?;
                    serve(&seen, stream, address, Protocol::Callpulse, identity, Reading::Welcome).await
                }
                .await;
                seen.lost.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    /// Opens connections that never complete a request: every other one sends nothing, the others send the half of one. They count as
    /// welcomed once they are open, and as lost once the server has closed them.
    pub fn half_open(&self, address: SocketAddr, count: usize) {
        let Some(runtime) = &self.runtime else { return };
        for number in 0..count {
            let seen = Arc::clone(&self.seen);
            runtime.spawn(async move {
                let _ = half_open(&seen, address, number % 2 == 0).await;
                seen.lost.fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    /// Waits until so many are welcomed, but for a few that were lost: a peer may drop a connection under load.
    pub async fn welcomed(&self, count: usize, within: Duration) -> Result<()> {
        eventually("all clients welcomed", within, async || {
            let welcomed = self.seen.welcomed.load(Ordering::Relaxed);
            let lost = self.seen.lost.load(Ordering::Relaxed);
            let missing = (count as u64).saturating_sub(welcomed);
            let is_done = missing <= lost.min(count as u64 / MAX_LOST);
            ensure!(is_done, "{welcomed} of {count} are welcomed, {lost} were lost");
            Ok(())
        })
        .await
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    All,
    /// Nothing after its welcome.
    Welcome,
}

async fn half_open(seen: &Seen, address: SocketAddr, is_silent: bool) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    if !is_silent {
        stream.write_all(HALF_A_REQUEST).await?;
    }
    seen.welcomed.fetch_add(1, Ordering::Relaxed);
    stream.read_u8().await?;
    Ok(())
}

async fn serve(
    seen: &Seen,
    mut stream: TcpStream,
    address: SocketAddr,
    protocol: Protocol,
    identity: Identity,
    reading: Reading,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    upgrade(&mut stream, &mut buffer, address, protocol, &identity.token).await?;
    if protocol == Protocol::Nats {
        let subscribe = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB user.{}.* 1\r\nPING\r\n",
            identity.user
        );
        stream.write_all(&masked(BINARY, subscribe.as_bytes())?).await?;
    }
    drop(identity);
    let mut is_welcomed = false;
    loop {
        while let Some(frame) = Frame::first(&buffer)? {
            let payload = buffer.get(frame.head..frame.head + frame.length).unwrap_or_default();
            match (frame.opcode, protocol) {
                (TEXT, Protocol::Callpulse) if !is_welcomed => {
                    is_welcomed = true;
                    seen.welcomed.fetch_add(1, Ordering::Relaxed);
                    if reading == Reading::Welcome {
                        return pending().await;
                    }
                }
                (TEXT, Protocol::Callpulse) => seen.notice(payload),
                (BINARY, Protocol::Nats) => {
                    let is_pinged = seen.nats(payload, &mut is_welcomed);
                    if is_pinged {
                        stream.write_all(&masked(BINARY, b"PONG\r\n")?).await?;
                    }
                }
                (PING, _) => stream.write_all(&PONG).await?,
                (CLOSE, _) => bail!("closed by the server"),
                _ => {}
            }
            buffer.advance(frame.head + frame.length);
        }
        buffer.reserve(READ_BYTES);
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the connection ended");
    }
}

async fn upgrade(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    address: SocketAddr,
    protocol: Protocol,
    token: &str,
) -> Result<()> {
    let (path, authorization) = match protocol {
        Protocol::Callpulse => ("/ws", format!("Authorization: Bearer {token}\r\n")),
        Protocol::Nats => ("/", String::new()),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "no handshake");
        let end = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            ensure!(buffer.starts_with(b"HTTP/1.1 101"), "the handshake was rejected");
            buffer.advance(end + 4);
            return Ok(());
        }
    }
}

/// The head of a frame that is complete.
struct Frame {
    opcode: u8,
    head: usize,
    length: usize,
}

impl Frame {
    fn first(buffer: &[u8]) -> Result<Option<Self>> {
        let [first, short, rest @ ..] = buffer else {
            return Ok(None);
        };
        let (head, length) = match (short, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (126, _) => return Ok(None),
            (127, _) => bail!("a frame of more than 64 KiB"),
            (short, _) => (2, usize::from(*short)),
        };
        let opcode = first & 0x0f;
        let is_complete = buffer.len() >= head + length;
        Ok(is_complete.then_some(Self { opcode, head, length }))
    }
}

fn masked(opcode: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
    let length = length.context("a client's frame of more than 125 bytes")?;
    let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    Ok(frame)
}

impl Seen {
    fn notice(&self, payload: &[u8]) {
        if let Some(sent) = sent_at(payload) {
            let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.latency.record(now.saturating_sub(sent));
            self.notices.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages of the NATS protocol: true if a ping is to be answered. A frame has whole messages, because they are small.
    fn nats(&self, mut payload: &[u8], is_welcomed: &mut bool) -> bool {
        let mut is_pinged = false;
        while let Some(end) = payload.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = payload.get(..end).unwrap_or_default();
            if line.ends_with(b"}}") && line.len() > SENT_BYTES {
                self.notice(line);
            }
            is_pinged |= line == b"PING";
            if line == b"PONG" && !*is_welcomed {
                *is_welcomed = true;
                self.welcomed.fetch_add(1, Ordering::Relaxed);
            }
            payload = payload.get(end + 2..).unwrap_or_default();
        }
        is_pinged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_are_read() {
        let frame = |bytes: &[u8]| {
            Frame::first(bytes)
                .unwrap()
                .map(|frame| (frame.opcode, frame.head, frame.length))
        };
        assert_eq!(frame(&[0x81]), None);
        assert_eq!(frame(&[0x81, 2, b'a']), None);
        assert_eq!(frame(&[0x81, 2, b'a', b'b', 0x89]), Some((TEXT, 2, 2)));
        assert_eq!(frame(&[0x82, 126, 0]), None);
        assert_eq!(
            frame(&[&[0x82, 126, 0, 200][..], &[0; 200]].concat()),
            Some((BINARY, 4, 200))
        );
        assert!(Frame::first(&[0x81, 127, 0, 0]).is_err());
    }
}
