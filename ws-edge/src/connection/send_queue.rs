//! What waits to be written to one socket: bounded, and never waited for by whoever puts something in.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Why the server closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The client does not read fast enough. 1013: it may come back.
    Slow,
    /// Something that the socket needs is away. 1013.
    Unavailable,
    /// This node stops. 1012.
    Restart,
    /// The party has opened more sockets than it may have; the newest stay. 4001.
    Replaced,
    /// No sign of life. 1001.
    Silent,
    /// Far too many messages. 1008.
    Flood,
    /// A message beyond the limit. 1009.
    TooBig,
    /// Text that is no UTF-8. 1007.
    NotUtf8,
    /// Something that is no WebSocket. 1002.
    Protocol,
}

impl Closing {
    /// The status code (RFC 6455 section 7.4).
    pub fn code(self) -> CloseCode {
        match self {
            Self::Slow | Self::Unavailable => CloseCode::Again,
            Self::Restart => CloseCode::Restart,
            Self::Replaced => CloseCode::Library(4001),
            Self::Silent => CloseCode::Away,
            Self::Flood => CloseCode::Policy,
            Self::TooBig => CloseCode::Size,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::Protocol => CloseCode::Protocol,
        }
    }

    /// The words beside it, and the label of its metric.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Unavailable => "unavailable",
            Self::Restart => "restart",
            Self::Replaced => "replaced",
            Self::Silent => "silent",
            Self::Flood => "flood",
            Self::TooBig => "too_big",
            Self::NotUtf8 => "not_utf8",
            Self::Protocol => "protocol",
        }
    }
}

#[derive(Debug, Default)]
struct Verdict {
    closing: OnceLock<Closing>,
    given: Notify,
}

/// The end that fills.
#[derive(Debug, Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Utf8Bytes>,
    verdict: Arc<Verdict>,
}

/// The end that the socket's task empties.
#[derive(Debug)]
pub struct Mail {
    queue: mpsc::Receiver<Utf8Bytes>,
    verdict: Arc<Verdict>,
}

/// Both ends of a queue of at most `capacity` messages.
pub fn outbox(capacity: usize) -> (Outbox, Mail) {
    let (sender, receiver) = mpsc::channel(capacity);
    let verdict = Arc::<Verdict>::default();
    (
        Outbox {
            queue: sender,
            verdict: Arc::clone(&verdict),
        },
        Mail {
            queue: receiver,
            verdict,
        },
    )
}

impl Outbox {
    /// Puts a message in. A queue that is full closes the socket instead: its client would miss this one.
    pub fn send(&self, message: Utf8Bytes) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.close(Closing::Slow);
        }
    }

    /// Closes the socket; only the first reason counts.
    pub fn close(&self, closing: Closing) {
        if self.verdict.closing.set(closing).is_ok() {
            self.verdict.given.notify_one();
        }
    }
}

impl Mail {
    /// Waits for messages and takes up to `limit` of them; 0 only when every [`Outbox`] is gone.
    ///
    /// # Errors
    /// [`Closing`] if somebody wants the socket closed.
    pub async fn take(&mut self, messages: &mut Vec<Utf8Bytes>, limit: usize) -> Result<usize, Closing> {
        tokio::select! {
            biased;
            closing = self.verdict.wait() => Err(closing),
            taken = self.queue.recv_many(messages, limit) => Ok(taken),
        }
    }

    /// What is there, without waiting.
    pub fn try_take(&mut self) -> Option<Utf8Bytes> {
        self.queue.try_recv().ok()
    }

    /// Waits until somebody wants the socket closed.
    pub async fn closing(&self) -> Closing {
        self.verdict.wait().await
    }
}

impl Verdict {
    async fn wait(&self) -> Closing {
        loop {
            if let Some(closing) = self.closing.get() {
                return *closing;
            }
            self.given.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overflow_closes_and_keeps_what_was_in() {
        let (outbox, mut mail) = outbox(2);
        for text in ["1", "2", "3", "4"] {
            outbox.send(Utf8Bytes::from_static(text));
        }
        assert_eq!(mail.take(&mut Vec::new(), 10).await, Err(Closing::Slow));
        assert_eq!(std::iter::from_fn(|| mail.try_take()).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[tokio::test]
    async fn the_first_reason_counts_and_is_not_forgotten() {
        let (outbox, mail) = outbox(1);
        outbox.close(Closing::Restart);
        outbox.close(Closing::Replaced);
        assert_eq!(
            (mail.closing().await, mail.closing().await),
            (Closing::Restart, Closing::Restart)
        );
    }
}
