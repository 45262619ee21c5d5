//! One socket from welcome to close: what is read becomes requests, one at a time; what waits is written.
//!
//! One task does both, so that a notice costs one wake-up. Requests run in tasks of their own: a client that goes away, or
//! does not read, stops no request halfway.

use std::time::Duration;

use contract::Party;
use futures::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::calls::snapshot::Welcome;
use crate::connection::send_queue::{Closing, Mail, outbox};
use crate::edge::Edge;
use crate::protocol;

use super::intake::{Heard, Intake};

/// A WebSocket of this node.
pub type Socket = WebSocketStream<TcpStream>;

/// Messages that go out in one write.
const WRITE_BATCH: usize = 64;
/// How long a client may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the client's request may still run when the node stops.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How a session ends.
#[derive(Debug)]
enum End {
    /// The client closed, or vanished.
    Gone,
    /// The client has not read for so long that not even a close would reach it.
    Stuck,
    /// The server closes.
    Close(Closing),
}

/// Serves one socket until its end.
pub async fn run(edge: Edge, socket: Socket, party: Party, stop: CancellationToken) {
    let (outbox, mail) = outbox(edge.limits.queued_messages);
    let session_id = format!("ws_{}", uuid::Uuid::now_v7().simple());
    let mut session = Session { socket, mail, stop };
    // Subscribed before the snapshot is read: a change after it comes as a notice.
    let seat = edge.directory.join(&party, outbox.clone()).await;
    let write_timeout = edge.limits.write_timeout();
    // Boxed, as is whatever else is over soon: an open socket shall not keep the room that its beginning took.
    let snapshot = Box::pin(edge.calls.snapshot(&party)).await;
    let end = match snapshot {
        Ok(standing) => {
            tracing::debug!(%party, session_id, "connected");
            let welcome = protocol::message(
                "welcome",
                Welcome {
                    session_id: &session_id,
                    standing,
                },
            );
            let intake = Intake::new(edge, party.clone(), outbox);
            session.serve(welcome, intake).await
        }
        Err(_) => End::Close(Closing::Unavailable),
    };
    drop(seat);
    let reason = match end {
        End::Gone => "client",
        End::Stuck => "stuck",
        End::Close(closing) => closing.reason(),
    };
    metrics::counter!("callpulse_ws_closed_total", "reason" => reason).increment(1);
    match end {
        End::Close(closing) if closing != Closing::Restart => {
            tracing::info!(%party, session_id, reason, "closing a socket");
        }
        End::Gone | End::Stuck | End::Close(_) => tracing::debug!(%party, session_id, reason, "disconnected"),
    }
    if let End::Close(closing) = end {
        Box::pin(session.close(closing, write_timeout)).await;
    }
}

struct Session {
    socket: Socket,
    mail: Mail,
    stop: CancellationToken,
}

impl Session {
    async fn serve(&mut self, welcome: Utf8Bytes, mut intake: Intake) -> End {
        let limits = &intake.edge().limits;
        let (interval, write_timeout) = (limits.ping_interval(), limits.write_timeout());
        let written = metrics::counter!("callpulse_ws_messages_total", "direction" => "out");
        if let Err(end) = self.write([Message::Text(welcome)], write_timeout).await {
            return end;
        }
        let mut last_heard = Instant::now();
        let mut pings = interval_at(last_heard + interval, interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            let outcome = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Box::pin(self.last_words(intake, write_timeout)).await,
                taken = self.mail.take(&mut batch, WRITE_BATCH) => match taken {
                    Ok(taken) => {
                        written.increment(taken as u64);
                        self.write(batch.drain(..).map(Message::Text), write_timeout).await
                    }
                    Err(closing) => Err(End::Close(closing)),
                },
                frame = self.socket.next() => {
                    last_heard = Instant::now();
                    match frame {
                        Some(Ok(message)) => match intake.hear(message) {
                            Heard::Fine => Ok(()),
                            Heard::Answer(answer) => self.write([Message::Text(answer)], write_timeout).await,
                            Heard::Close(closing) => Err(End::Close(closing)),
                        },
                        Some(Err(error)) => Err(end_of(&error)),
                        None => Err(End::Gone),
                    }
                }
                () = intake.next_done() => Ok(()),
                _ = pings.tick() => {
                    if last_heard.elapsed() > interval * 2 {
                        Err(End::Close(Closing::Silent))
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

    /// Writes messages in one go. An overflow of the queue meanwhile is not waited out.
    async fn write(&mut self, messages: impl IntoIterator<Item = Message>, limit: Duration) -> Result<(), End> {
        let Self { socket, mail, stop } = self;
        let writing = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        tokio::select! {
            biased;
            written = timeout(limit, writing) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Gone),
                Err(_) => Err(End::Stuck),
            },
            closing = mail.closing() => Err(End::Close(closing)),
            // The node's stop does not wait for a client that does not read.
            () = async { stop.cancelled().await; sleep(CLOSE_TIMEOUT).await } => Err(End::Stuck),
        }
    }

    /// The node stops: the request that runs is answered, what waits is written.
    async fn last_words(&mut self, mut intake: Intake, limit: Duration) -> End {
        if timeout(LAST_REQUEST_TIMEOUT, intake.finish()).await.is_err() {
            tracing::warn!("a request is still running when its socket closes");
        }
        let waiting: Vec<Message> = std::iter::from_fn(|| self.mail.try_take()).map(Message::Text).collect();
        match self.write(waiting, limit).await {
            Ok(()) => End::Close(Closing::Restart),
            Err(end) => end,
        }
    }

    /// Says why, and waits a moment for the client to have read it: to go at once could take the frame back.
    async fn close(mut self, closing: Closing, limit: Duration) {
        let limit = if closing == Closing::Restart {
            limit.min(CLOSE_TIMEOUT)
        } else {
            limit
        };
        let frame = CloseFrame {
            code: closing.code(),
            reason: Utf8Bytes::from_static(closing.reason()),
        };
        if !matches!(timeout(limit, self.socket.close(Some(frame))).await, Ok(Ok(()))) {
            return;
        }
        let _ = timeout(CLOSE_TIMEOUT, async {
            while self.socket.next().await.is_some() {}
            // After an error the WebSocket reads no more, though the client may still be writing.
            if !matches!(closing, Closing::TooBig | Closing::NotUtf8 | Closing::Protocol) {
                return;
            }
            let mut rest = [0; 4096];
            while matches!(self.socket.get_mut().read(&mut rest).await, Ok(read) if read > 0) {}
        })
        .await;
    }
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Close(Closing::TooBig),
        Error::Utf8(_) => End::Close(Closing::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Close(Closing::Protocol),
        _ => End::Gone,
    }
}
