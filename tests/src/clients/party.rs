//! The WebSocket of one party: requests and their answers, notices in order, and deliberately bad input.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::inbox::Inbox;
use crate::token::{self, Role};
use handshake::{Socket, open};

pub use handshake::Handshake;

mod handshake;
mod wire;

/// The default deadline for a handshake, an answer or a notice.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Messages that may wait to be written.
const QUEUED_MESSAGES: usize = 64;

/// A received message with its time.
#[derive(Debug)]
pub struct Received {
    /// When it was read from the socket.
    pub at: Instant,
    /// The envelope. A binary message, which no service sends, is a JSON string here.
    pub message: Value,
}

impl Received {
    /// `type` of the envelope; empty if it has none.
    pub fn kind(&self) -> &str {
        self.message.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// `payload` of the envelope.
    pub fn payload(&self) -> &Value {
        self.message.get("payload").unwrap_or(&Value::Null)
    }
}

/// The direction of a message, from the side of the party.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the edge.
    Sent,
    /// From the edge.
    Received,
}

/// A message as an observer receives it.
#[derive(Debug, Clone)]
pub struct ObservedMessage {
    /// The party's name.
    pub party: String,
    /// Sent or received.
    pub direction: Direction,
    /// The envelope.
    pub message: Arc<Value>,
}

/// Sends every message of a party to observers. A slow observer misses messages; the party never waits.
pub type MessageBroadcast = broadcast::Sender<ObservedMessage>;

/// Handles every message of the server, in order, as it is read. Must not block.
///
/// With a handler, the inbox keeps answers only: a long-lived party would fill it with notices.
pub trait MessageHandler: Debug + Send + Sync {
    /// Handles a message that was read at `at`.
    fn handle(&self, at: SystemTime, message: &Value);
}

/// The receivers of a party's messages.
#[derive(Debug, Clone, Default)]
struct Observers {
    broadcast: Option<MessageBroadcast>,
    handler: Option<Arc<dyn MessageHandler>>,
}

/// The answer of an edge to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `response`, with its payload.
    Response(Value),
    /// `error`, with its code and message.
    Refusal {
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// Of `call_denied`: the wallet's reason. Otherwise empty.
        reason: String,
    },
}

/// A connected party. Dropping it cuts the connection without a closing handshake.
#[derive(Debug)]
pub struct Party {
    name: String,
    inbox: Arc<Inbox<Received>>,
    outgoing: mpsc::Sender<Message>,
    observers: Observers,
    next_id: AtomicU64,
    _tasks: JoinSet<()>,
}

impl Party {
    /// Connects with a valid token.
    pub async fn connect(edge: SocketAddr, role: Role, name: &str) -> Result<Self> {
        Self::connect_observed(edge, role, name, None).await
    }

    /// Like [`connect`](Self::connect), with a broadcast of all messages.
    pub async fn connect_observed(
        edge: SocketAddr,
        role: Role,
        name: &str,
        broadcast: Option<MessageBroadcast>,
    ) -> Result<Self> {
        let handshake = Handshake::bearer(token::valid(role, name)?);
        let socket = open(edge, &handshake)
            .await?
            .with_context(|| format!("{name} connecting to {edge}"))?;
        let observers = Observers {
            broadcast,
            handler: None,
        };
        Ok(Self::on(socket, name, observers))
    }

    /// Like [`connect`](Self::connect), with a handler of every message of the server.
    pub async fn connect_with_handler(
        edge: SocketAddr,
        role: Role,
        name: &str,
        handler: Arc<dyn MessageHandler>,
    ) -> Result<Self> {
        let handshake = Handshake::bearer(token::valid(role, name)?);
        let observers = Observers {
            broadcast: None,
            handler: Some(handler),
        };
        Ok(Self::on(open(edge, &handshake).await??, name, observers))
    }

    /// Connects with any handshake.
    /// If the edge does not accept, the error names the HTTP status.
    pub async fn connect_with(edge: SocketAddr, name: &str, handshake: &Handshake) -> Result<Self> {
        Ok(Self::on(open(edge, handshake).await??, name, Observers::default()))
    }

    /// Attempts a handshake that must be rejected, and returns the HTTP status.
    pub async fn rejected(edge: SocketAddr, handshake: &Handshake) -> Result<u16> {
        match open(edge, handshake).await? {
            Ok(_) => bail!("{edge} accepted {handshake:?}"),
            Err(tungstenite::Error::Http(response)) => Ok(response.status().as_u16()),
            Err(error) => Err(error.into()),
        }
    }

    fn on(socket: Socket, name: &str, observers: Observers) -> Self {
        let (outgoing, queue) = mpsc::channel(QUEUED_MESSAGES);
        let inbox = Arc::new(Inbox::default());
        let (sink, stream) = socket.split();
        let mut tasks = JoinSet::new();
        tasks.spawn(wire::read(
            stream,
            Arc::clone(&inbox),
            name.to_owned(),
            observers.clone(),
        ));
        tasks.spawn(wire::write(sink, queue));
        Self {
            name: name.to_owned(),
            inbox,
            outgoing,
            observers,
            next_id: AtomicU64::new(1),
            _tasks: tasks,
        }
    }

    /// The subject of its token.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All received messages, in order.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.inbox.all()
    }

    /// All received messages of one `type`, in order.
    pub fn received_of(&self, kind: &str) -> Vec<Arc<Received>> {
        self.received()
            .into_iter()
            .filter(|received| received.kind() == kind)
            .collect()
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&self, kind: &str, payload: Value) -> Result<Answer> {
        let id = json!(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.send(json!({ "type": kind, "id": id, "payload": payload })).await?;
        let what = format!("the answer to {kind} of {}", self.name);
        let is_answer = |received: &Received| received.message.get("id") == Some(&id);
        let received = self.inbox.take(&what, ANSWERED_WITHIN, is_answer).await?;
        let text = |key: &str| {
            received
                .payload()
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        match received.kind() {
            "response" => Ok(Answer::Response(received.payload().clone())),
            "error" => Ok(Answer::Refusal {
                code: text("code"),
                message: text("message"),
                reason: text("reason"),
            }),
            other => bail!("{what} is of type {other:?}: {}", received.message),
        }
    }

    /// Sends a request that must succeed, and returns the payload of the response.
    pub async fn request(&self, kind: &str, payload: Value) -> Result<Value> {
        match self.ask(kind, payload).await? {
            Answer::Response(payload) => Ok(payload),
            Answer::Refusal { code, message, .. } => bail!("{kind} of {} was refused: {code}: {message}", self.name),
        }
    }

    /// Sends a request that must be refused, and returns the code of the error.
    pub async fn refused(&self, kind: &str, payload: Value) -> Result<String> {
        match self.ask(kind, payload).await? {
            Answer::Refusal { code, .. } => Ok(code),
            Answer::Response(payload) => bail!("{kind} of {} was granted: {payload}", self.name),
        }
    }

    /// Takes the next notice of one `type`.
    /// Fails if none arrives before the deadline; the error lists the received messages.
    pub async fn expect_notice(&self, kind: &str) -> Result<Arc<Received>> {
        self.expect_notice_within(kind, ANSWERED_WITHIN).await
    }

    /// Like [`expect_notice`](Self::expect_notice), with a deadline.
    pub async fn expect_notice_within(&self, kind: &str, within: Duration) -> Result<Arc<Received>> {
        let what = format!("{kind} to {}", self.name);
        self.inbox.take(&what, within, |received| received.kind() == kind).await
    }

    /// Sends an envelope unchanged.
    pub async fn send(&self, message: Value) -> Result<()> {
        self.send_raw(Message::text(message.to_string())).await?;
        if let Some(broadcast) = &self.observers.broadcast {
            let observed = ObservedMessage {
                party: self.name.clone(),
                direction: Direction::Sent,
                message: Arc::new(message),
            };
            let _ = broadcast.send(observed); // an error means no receiver
        }
        Ok(())
    }

    /// Sends any WebSocket message.
    pub async fn send_raw(&self, message: Message) -> Result<()> {
        let sent = self.outgoing.send(message).await;
        sent.with_context(|| format!("{} is not connected ({:?})", self.name, self.inbox.closed()))
    }

    /// Closes with a closing handshake.
    pub async fn close(&self) -> Result<()> {
        self.send_raw(Message::Close(None)).await?;
        self.until_closed(ANSWERED_WITHIN).await.map(drop)
    }

    /// Waits until the connection has ended, and returns the reason: for a close frame, its code and reason.
    pub async fn until_closed(&self, within: Duration) -> Result<String> {
        self.inbox
            .until_closed(within)
            .await
            .with_context(|| format!("the end of {}'s connection", self.name))
    }

    /// The reason of the end, if the connection has ended.
    pub fn closed(&self) -> Option<String> {
        self.inbox.closed()
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, StreamExt};
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;

    use super::*;

    /// An edge that answers `good` with a response and anything else with an error, a notice before each.
    async fn stub() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut socket = accept_async(listener.accept().await.unwrap().0).await.unwrap();
            while let Some(Ok(Message::Text(text))) = socket.next().await {
                let request: Value = serde_json::from_str(&text).unwrap();
                let answer = match request["type"].as_str().unwrap() {
                    "good" => json!({ "type": "response", "id": request["id"], "payload": request["payload"] }),
                    _ => json!({ "type": "error", "id": request["id"], "payload": { "code": "bad", "message": "" } }),
                };
                let notice = json!({ "type": "tick", "payload": { "minute": 1 } });
                for message in [notice, answer] {
                    socket.send(Message::text(message.to_string())).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn answers_and_notices_are_told_apart() {
        let party = Party::connect(stub().await, Role::User, "user_001").await.unwrap();
        assert_eq!(
            party.request("good", json!({ "a": 1 })).await.unwrap(),
            json!({ "a": 1 })
        );
        assert_eq!(party.refused("evil", json!({})).await.unwrap(), "bad");
        assert!(party.request("evil", json!({})).await.is_err());
        assert!(party.refused("good", json!({})).await.is_err());
        assert_eq!(party.expect_notice("tick").await.unwrap().payload()["minute"], 1);
        assert_eq!(party.received_of("tick").len(), 4);
    }

    #[tokio::test]
    async fn a_wait_on_a_closed_connection_fails_with_the_reason() {
        let party = Party::connect(stub().await, Role::User, "user_001").await.unwrap();
        party.close().await.unwrap();
        let error = party.expect_notice("tick").await.unwrap_err().to_string();
        assert!(error.starts_with("tick to user_001 can no longer come"), "{error}");
    }
}
