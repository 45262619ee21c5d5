//! One socket from welcome to close: received messages become requests, one at a time, and queued messages are written.
//!
//! One task reads and writes; while it waits, notices are written directly (see `send_queue`). Each request runs in a task of its own,
//! so that a client that disconnects or does not read cannot stop a request halfway.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use contract::Party;
use futures::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::Deps;
use super::handshake_limiter::HandshakePermit;
use super::request_queue::{Received, RequestQueue};
use super::send_queue::{CloseReason, SendQueueReceiver, send_queue};
use crate::connection::rate_limited_stream::RateLimitedStream;
use crate::handshake::token::Verified;
use crate::metrics;
use crate::protocol::{self, Welcome};
use crate::tls::ClientStream;

/// A WebSocket of this node.
pub type Socket = WebSocketStream<RateLimitedStream<ClientStream>>;

/// How long a client may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the client's request may still run when the node stops.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How a session ends.
#[derive(Debug)]
enum End {
    /// The client closed the socket, or disappeared.
    Gone,
    /// The client has not read for so long that a close frame could not be written either.
    Stuck,
    /// The server closes.
    Close(CloseReason),
}

/// Serves one socket until its end. Its start is the last part of the handshake's `permit`.
pub async fn run(
    deps: Arc<Deps>,
    socket: Socket,
    owner: Verified<Party>,
    permit: HandshakePermit,
    stop: CancellationToken,
) {
    let expires_at = Instant::now() + owner.remaining;
    let party = owner.owner;
    let stream = socket.get_ref().get_ref().shared();
    let (queue, queued) = send_queue(deps.limits.queued_messages, stream);
    let session_id = format!("ws_{}", uuid::Uuid::now_v7().simple());
    let mut session = Session { socket, queued, stop };
    let write_timeout = deps.limits.write_timeout();
    let start = async {
        // Subscribe before reading the snapshot: a later change arrives as a notice.
        let registration = deps.registry.join(&party, queue.clone()).await?;
        let snapshot = deps.snapshots.read(&party).await.ok()?;
        Some((registration, snapshot))
    };
    // Boxed, like every other short phase: an open socket should not keep the memory that its start took.
    let started = Box::pin(permit.during(start)).await;
    let (registration, snapshot) = started.unzip();
    let end = match snapshot {
        Some(snapshot) => {
            tracing::debug!(%party, session_id, "WebSocket opened");
            let welcome = protocol::message(
                "welcome",
                Welcome {
                    session_id: &session_id,
                    heartbeat_ms: deps.limits.heartbeat_ms,
                    snapshot,
                },
            );
            let requests = RequestQueue::new(deps, party.clone(), queue, expires_at);
            session.serve(welcome, requests).await
        }
        None => End::Close(CloseReason::Unavailable),
    };
    drop(registration);
    let reason = match end {
        End::Gone => "client",
        End::Stuck => "stuck",
        End::Close(reason) => reason.as_str(),
    };
    metrics::session_ended(reason);
    match end {
        End::Close(close) if close != CloseReason::Restart => {
            tracing::info!(%party, session_id, reason, "closing WebSocket");
        }
        End::Gone | End::Stuck | End::Close(_) => tracing::debug!(%party, session_id, reason, "WebSocket closed"),
    }
    if let End::Close(reason) = end {
        Box::pin(session.close(reason, write_timeout)).await;
    }
}

struct Session {
    socket: Socket,
    queued: SendQueueReceiver,
    stop: CancellationToken,
}

impl Session {
    async fn serve(&mut self, welcome: Utf8Bytes, mut requests: RequestQueue) -> End {
        let limits = requests.limits();
        let (interval, write_timeout) = (limits.ping_interval(), limits.write_timeout());
        if let Err(end) = self.write([Message::Text(welcome)], write_timeout).await {
            return end;
        }
        let mut last_received = Instant::now();
        let mut pings = interval_at(last_received + interval, interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expiry = pin!(sleep_until(requests.expires_at()));
        loop {
            if expiry.deadline() != requests.expires_at() {
                // The token was refreshed.
                expiry.as_mut().reset(requests.expires_at());
            }
            let outcome = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Box::pin(self.drain(requests, write_timeout)).await,
                received = self.queued.recv() => match received {
                    Ok(messages) => self.write(messages.into_iter().map(Message::Text), write_timeout).await,
                    Err(reason) => Err(End::Close(reason)),
                },
                frame = self.socket.next() => {
                    last_received = Instant::now();
                    match frame {
                        Some(Ok(message)) => match self.receive(message, &mut requests) {
                            Received::Nothing => Ok(()),
                            Received::Answer(answer) => self.write([Message::Text(answer)], write_timeout).await,
                            Received::Close(reason) => Err(End::Close(reason)),
                        },
                        Some(Err(error)) => Err(CloseReason::of(&error).map_or(End::Gone, End::Close)),
                        None => Err(End::Gone),
                    }
                }
                () = requests.next_answered() => Ok(()),
                () = expiry.as_mut() => Err(End::Close(CloseReason::TokenExpired)),
                _ = pings.tick() => {
                    if last_received.elapsed() > interval * 2 {
                        Err(End::Close(CloseReason::Silent))
                    } else {
                        self.write([Message::Ping(Bytes::new())], write_timeout).await
                    }
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    fn receive(&self, message: Message, requests: &mut RequestQueue) -> Received {
        if message.is_close() {
            // The answer to it must be the last frame.
            self.queued.stop();
        }
        requests.receive(message)
    }

    /// Writes messages at once. Gives up when the queue overflows meanwhile.
    async fn write(&mut self, messages: impl IntoIterator<Item = Message>, limit: Duration) -> Result<(), End> {
        let Self { socket, queued, stop } = self;
        let started = Instant::now();
        let writing = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        tokio::select! {
            biased;
            written = timeout(limit, writing) => match written {
                Ok(Ok(())) => {
                    metrics::socket_written(started.elapsed());
                    Ok(())
                }
                Ok(Err(_)) => Err(End::Gone),
                Err(_) => Err(End::Stuck),
            },
            reason = queued.closed() => Err(End::Close(reason)),
            // The node's shutdown does not wait for a client that does not read.
            () = async { stop.cancelled().await; sleep(CLOSE_TIMEOUT).await } => Err(End::Stuck),
        }
    }

    /// The node stops: waits for the running request's answer, and writes the queued messages.
    async fn drain(&mut self, mut requests: RequestQueue, limit: Duration) -> End {
        if timeout(LAST_REQUEST_TIMEOUT, requests.finish()).await.is_err() {
            tracing::warn!("a request is still unanswered when its socket closes");
        }
        let queued: Vec<Message> = std::iter::from_fn(|| self.queued.try_recv())
            .map(Message::Text)
            .collect();
        match self.write(queued, limit).await {
            Ok(()) => End::Close(CloseReason::Restart),
            Err(end) => end,
        }
    }

    async fn close(mut self, reason: CloseReason, limit: Duration) {
        self.queued.stop();
        close(&mut self.socket, reason, limit).await;
    }
}

/// Sends the close frame, and waits a moment for the client's answer: closing the TCP connection at once could discard the frame.
pub(crate) async fn close(socket: &mut Socket, reason: CloseReason, limit: Duration) {
    let limit = if reason == CloseReason::Restart {
        limit.min(CLOSE_TIMEOUT)
    } else {
        limit
    };
    let frame = CloseFrame {
        code: reason.code(),
        reason: Utf8Bytes::from_static(reason.as_str()),
    };
    if !matches!(timeout(limit, socket.close(Some(frame))).await, Ok(Ok(()))) {
        return;
    }
    let _ = timeout(CLOSE_TIMEOUT, async {
        while socket.next().await.is_some() {}
        // After an error the WebSocket reads no more, but the client may still be writing.
        if !matches!(
            reason,
            CloseReason::TooBig | CloseReason::NotUtf8 | CloseReason::Protocol
        ) {
            return;
        }
        let mut rest = [0; 4096];
        while matches!(socket.get_mut().read(&mut rest).await, Ok(read) if read > 0) {}
    })
    .await;
}
