//! The messages to one socket: written at once while its session is idle, otherwise queued. Senders never wait: a full queue closes
//! the socket.

use std::collections::VecDeque;
use std::sync::Arc;

use ::metrics::{Counter, Gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use crate::metrics;
use crate::shared_stream::{Sent, SharedStream};

/// Why the server closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client does not read fast enough. 1013: the client may reconnect.
    Slow,
    /// A dependency of the socket, such as JetStream, does not answer. 1013.
    Unavailable,
    /// This node stops. 1012.
    Restart,
    /// The party has opened more sockets than allowed; the newest stay open. 4001.
    Replaced,
    /// The client's token has expired, and was not refreshed. 4401.
    TokenExpired,
    /// The client has sent nothing, not even a pong, for two ping intervals. 1001.
    Silent,
    /// Far too many messages. 1008.
    Flood,
    /// A message is longer than the limit. 1009.
    TooBig,
    /// A text message is not UTF-8. 1007.
    NotUtf8,
    /// The client violates the WebSocket protocol. 1002.
    Protocol,
}

impl CloseReason {
    /// How to close a socket of which nothing more can be read; `None` if its client is gone.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(Self::TooBig),
            Error::Utf8(_) => Some(Self::NotUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) => Some(Self::Protocol),
            _ => None,
        }
    }

    /// The status code (RFC 6455 section 7.4).
    pub fn code(self) -> CloseCode {
        match self {
            Self::Slow | Self::Unavailable => CloseCode::Again,
            Self::Restart => CloseCode::Restart,
            Self::Replaced => CloseCode::Library(4001),
            Self::TokenExpired => CloseCode::Library(4401),
            Self::Silent => CloseCode::Away,
            Self::Flood => CloseCode::Policy,
            Self::TooBig => CloseCode::Size,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::Protocol => CloseCode::Protocol,
        }
    }

    /// The text in the close frame, and the label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Unavailable => "unavailable",
            Self::Restart => "restart",
            Self::Replaced => "replaced",
            Self::TokenExpired => "token_expired",
            Self::Silent => "silent",
            Self::Flood => "flood",
            Self::TooBig => "too_big",
            Self::NotUtf8 => "not_utf8",
            Self::Protocol => "protocol",
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There are messages, or the socket is to be closed.
    changed: Notify,
    capacity: usize,
    /// Where messages may be written directly.
    stream: Option<SharedStream>,
    written: Counter,
    queued: Gauge,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Utf8Bytes>,
    /// The session has written everything, and waits.
    is_idle: bool,
    /// A part of a message is written; the session must flush the rest.
    has_rest: bool,
    close: Option<CloseReason>,
    /// Nothing may be written any more.
    is_stopped: bool,
}

impl Shared {
    fn push(&self, state: &mut State, message: Utf8Bytes) {
        state.messages.push_back(message);
        self.queued.increment(1.0);
    }

    fn take(&self, state: &mut State) -> VecDeque<Utf8Bytes> {
        let messages = std::mem::take(&mut state.messages);
        // Writing the gauge costs more than reading the length.
        if !messages.is_empty() {
            self.queued
                .decrement(f64::from(u32::try_from(messages.len()).unwrap_or(u32::MAX)));
        }
        messages
    }
}

/// The sending end. Clones share the queue.
#[derive(Debug, Clone)]
pub struct SendQueue(Arc<Shared>);

/// The receiving end, which the socket's task drains.
#[derive(Debug)]
pub struct SendQueueReceiver(Arc<Shared>);

/// Both ends of a queue of at most `capacity` messages. With a stream, a message is written to it at once while the session is
/// idle.
pub fn send_queue(capacity: usize, stream: Option<SharedStream>) -> (SendQueue, SendQueueReceiver) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        changed: Notify::new(),
        capacity,
        stream,
        written: metrics::messages("out"),
        queued: metrics::queued_messages(),
    });
    (SendQueue(Arc::clone(&shared)), SendQueueReceiver(shared))
}

impl SendQueue {
    /// Sends a message. A full queue closes the socket instead, because its client would miss this message.
    pub fn send(&self, message: Utf8Bytes) {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        if state.is_stopped {
            return;
        }
        if let Some(stream) = shared.stream.as_ref().filter(|_| state.is_idle) {
            match stream.try_send(&message) {
                Sent::Whole => return shared.written.increment(1),
                Sent::Partly => {
                    shared.written.increment(1);
                    state.has_rest = true;
                }
                Sent::Nothing => shared.push(&mut state, message),
            }
        } else if state.messages.len() < shared.capacity {
            shared.push(&mut state, message);
        } else {
            state.close.get_or_insert(CloseReason::Slow);
        }
        state.is_idle = false;
        drop(state);
        shared.changed.notify_one();
    }

    /// Closes the socket; only the first reason counts.
    pub fn close(&self, reason: CloseReason) {
        self.0.state.lock().close.get_or_insert(reason);
        self.0.changed.notify_one();
    }
}

impl SendQueueReceiver {
    /// Waits for messages and takes all of them. None means that the socket must be flushed.
    ///
    /// # Errors
    /// [`CloseReason`] once the socket is to be closed.
    pub async fn recv(&mut self) -> Result<VecDeque<Utf8Bytes>, CloseReason> {
        loop {
            {
                let mut state = self.0.state.lock();
                if let Some(reason) = state.close {
                    return Err(reason);
                }
                if std::mem::take(&mut state.has_rest) || !state.messages.is_empty() {
                    let messages = self.0.take(&mut state);
                    self.0.written.increment(messages.len() as u64);
                    return Ok(messages);
                }
                state.is_idle = true;
            }
            self.0.changed.notified().await;
        }
    }

    /// The next message, if one is queued.
    pub fn try_recv(&mut self) -> Option<Utf8Bytes> {
        let next = self.0.state.lock().messages.pop_front();
        if next.is_some() {
            self.0.queued.decrement(1.0);
        }
        next
    }

    /// Waits until the socket is to be closed.
    pub async fn closed(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.0.state.lock().close {
                return reason;
            }
            // It may be a message: `recv` looks before it waits.
            self.0.changed.notified().await;
        }
    }

    /// Refuses all further messages: after a close frame, no message may follow.
    pub fn stop(&self) {
        let mut state = self.0.state.lock();
        state.is_stopped = true;
        self.0.take(&mut state);
    }
}

impl Drop for SendQueueReceiver {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn an_overflow_closes_the_socket_and_keeps_the_queued_messages() {
        let (queue, mut receiver) = send_queue(2, None);
        for text in ["1", "2", "3", "4"] {
            queue.send(Utf8Bytes::from_static(text));
        }
        assert_eq!(receiver.recv().await, Err(CloseReason::Slow));
        assert_eq!(
            std::iter::from_fn(|| receiver.try_recv()).collect::<Vec<_>>(),
            ["1", "2"]
        );
    }

    #[tokio::test]
    async fn messages_wait_for_each_other_and_for_the_session() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut client, stream) = (client.unwrap(), accepted.unwrap().0);
        stream.writable().await.unwrap();
        let (queue, mut receiver) = send_queue(2, Some(SharedStream::new(stream)));
        let send = |text: &'static str| queue.send(Utf8Bytes::from_static(text));
        send("before the welcome");
        assert_eq!(receiver.recv().await.unwrap(), ["before the welcome"]);
        send("while the session writes");
        assert_eq!(receiver.recv().await.unwrap(), ["while the session writes"]);
        assert!(receiver.recv().now_or_never().is_none());
        send("idle");
        let mut frame = [0; 6];
        client.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x81\x04idle");
        receiver.stop();
        send("after the close");
        drop((queue, receiver));
        assert_eq!(client.read(&mut frame).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_first_close_reason_is_kept() {
        let (queue, receiver) = send_queue(1, None);
        queue.close(CloseReason::Restart);
        queue.close(CloseReason::Replaced);
        assert_eq!(
            (receiver.closed().await, receiver.closed().await),
            (CloseReason::Restart, CloseReason::Restart)
        );
    }
}
