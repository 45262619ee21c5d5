//! The bounded queue of messages for one socket. Senders never wait: a full queue closes the socket.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

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

#[derive(Debug, Default)]
struct CloseSignal {
    reason: OnceLock<CloseReason>,
    set: Notify,
}

/// The sending end. Clones share the queue.
#[derive(Debug, Clone)]
pub struct SendQueue {
    messages: mpsc::Sender<Utf8Bytes>,
    close: Arc<CloseSignal>,
}

/// The receiving end, which the socket's task drains.
#[derive(Debug)]
pub struct SendQueueReceiver {
    messages: mpsc::Receiver<Utf8Bytes>,
    close: Arc<CloseSignal>,
}

/// Both ends of a queue of at most `capacity` messages.
pub fn send_queue(capacity: usize) -> (SendQueue, SendQueueReceiver) {
    let (sender, messages) = mpsc::channel(capacity);
    let close = Arc::<CloseSignal>::default();
    let queue = SendQueue {
        messages: sender,
        close: Arc::clone(&close),
    };
    (queue, SendQueueReceiver { messages, close })
}

impl SendQueue {
    /// Adds a message. A full queue closes the socket instead, because its client would miss this message.
    pub fn send(&self, message: Utf8Bytes) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(message) {
            self.close(CloseReason::Slow);
        }
    }

    /// Closes the socket; only the first reason counts.
    pub fn close(&self, reason: CloseReason) {
        if self.close.reason.set(reason).is_ok() {
            self.close.set.notify_one();
        }
    }
}

impl SendQueueReceiver {
    /// Waits for messages and moves up to `limit` of them to `messages`; returns 0 only after every [`SendQueue`] is dropped.
    ///
    /// # Errors
    /// [`CloseReason`] once the socket is to be closed.
    pub async fn recv_many(&mut self, messages: &mut Vec<Utf8Bytes>, limit: usize) -> Result<usize, CloseReason> {
        tokio::select! {
            biased;
            reason = self.close.wait() => Err(reason),
            count = self.messages.recv_many(messages, limit) => Ok(count),
        }
    }

    /// The next message, if one is queued.
    pub fn try_recv(&mut self) -> Option<Utf8Bytes> {
        self.messages.try_recv().ok()
    }

    /// Waits until the socket is to be closed.
    pub async fn closed(&self) -> CloseReason {
        self.close.wait().await
    }
}

impl CloseSignal {
    async fn wait(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.reason.get() {
                return *reason;
            }
            self.set.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_overflow_closes_the_socket_and_keeps_the_queued_messages() {
        let (queue, mut receiver) = send_queue(2);
        for text in ["1", "2", "3", "4"] {
            queue.send(Utf8Bytes::from_static(text));
        }
        assert_eq!(receiver.recv_many(&mut Vec::new(), 10).await, Err(CloseReason::Slow));
        assert_eq!(
            std::iter::from_fn(|| receiver.try_recv()).collect::<Vec<_>>(),
            ["1", "2"]
        );
    }

    #[tokio::test]
    async fn the_first_close_reason_is_kept() {
        let (queue, receiver) = send_queue(1);
        queue.close(CloseReason::Restart);
        queue.close(CloseReason::Replaced);
        assert_eq!(
            (receiver.closed().await, receiver.closed().await),
            (CloseReason::Restart, CloseReason::Restart)
        );
    }
}
