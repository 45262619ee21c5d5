//! One party's WebSocket: requests with their answers, notices in order, and bad input on purpose.

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

/// How long connecting, an answer or a notice may take, unless said otherwise.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Messages that may wait to be written.
const QUEUED_MESSAGES: usize = 64;

/// A message received, and when.
#[derive(Debug)]
pub struct Received {
    /// When it was read from the socket.
    pub at: Instant,
    /// The whole envelope. A binary message stands as a JSON string: no service sends any.
    pub message: Value,
}

impl Received {
    /// `type` of the envelope; empty if it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.message.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// `payload` of the envelope.
    #[must_use]
    pub fn payload(&self) -> &Value {
        self.message.get("payload").unwrap_or(&Value::Null)
    }
}

/// Which way a message went, as the party sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Sent to the edge.
    Out,
    /// Received from the edge.
    In,
}

/// A message as an onlooker sees it.
#[derive(Debug, Clone)]
pub struct Overheard {
    /// The party's name.
    pub party: String,
    /// Sent or received.
    pub way: Way,
    /// The whole envelope.
    pub message: Arc<Value>,
}

/// Whoever wants to look on while a party talks. A slow onlooker misses messages; the party never waits.
pub type Onlookers = broadcast::Sender<Overheard>;

/// Whoever has to hear every message of the server, in order, before anything else is done with it. Must not block.
///
/// With an ear the inbox keeps answers only: a party that lives for long would fill it with notices.
pub trait Ear: Debug + Send + Sync {
    /// A message was read.
    fn hear(&self, at: SystemTime, message: &Value);
}

/// Who follows what passes by.
#[derive(Debug, Clone, Default)]
struct Followers {
    onlookers: Option<Onlookers>,
    ear: Option<Arc<dyn Ear>>,
}

/// What an edge answered to a request.
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
    },
}

/// A connected party. Dropping it cuts the connection without a closing handshake.
#[derive(Debug)]
pub struct Party {
    name: String,
    inbox: Arc<Inbox<Received>>,
    outgoing: mpsc::Sender<Message>,
    followers: Followers,
    next_id: AtomicU64,
    _tasks: JoinSet<()>,
}

impl Party {
    /// Connects with a good token.
    ///
    /// # Errors
    /// When the edge does not accept.
    pub async fn connect(edge: SocketAddr, role: Role, name: &str) -> Result<Self> {
        Self::connect_watched(edge, role, name, None).await
    }

    /// The same, with somebody looking on.
    ///
    /// # Errors
    /// When the edge does not accept.
    pub async fn connect_watched(
        edge: SocketAddr,
        role: Role,
        name: &str,
        onlookers: Option<Onlookers>,
    ) -> Result<Self> {
        let handshake = Handshake::bearer(token::good(role, name)?);
        let socket = open(edge, &handshake)
            .await?
            .with_context(|| format!("{name} connecting to {edge}"))?;
        let followers = Followers { onlookers, ear: None };
        Ok(Self::on(socket, name, followers))
    }

    /// Connects with a good token, and every message of the server is heard as it is read.
    ///
    /// # Errors
    /// When the edge does not accept.
    pub async fn connect_heard(edge: SocketAddr, role: Role, name: &str, ear: Arc<dyn Ear>) -> Result<Self> {
        let handshake = Handshake::bearer(token::good(role, name)?);
        let followers = Followers {
            onlookers: None,
            ear: Some(ear),
        };
        Ok(Self::on(open(edge, &handshake).await??, name, followers))
    }

    /// Connects in any way one likes.
    ///
    /// # Errors
    /// When the edge does not accept; the error names the HTTP status.
    pub async fn connect_as(edge: SocketAddr, name: &str, handshake: &Handshake) -> Result<Self> {
        Ok(Self::on(open(edge, handshake).await??, name, Followers::default()))
    }

    /// Knocks, expecting to be turned away before the WebSocket stands: the HTTP status.
    ///
    /// # Errors
    /// When the edge accepts, or does not answer at all.
    pub async fn turned_away(edge: SocketAddr, handshake: &Handshake) -> Result<u16> {
        match open(edge, handshake).await? {
            Ok(_) => bail!("{edge} accepted {handshake:?}"),
            Err(tungstenite::Error::Http(response)) => Ok(response.status().as_u16()),
            Err(error) => Err(error.into()),
        }
    }

    fn on(socket: Socket, name: &str, followers: Followers) -> Self {
        let (outgoing, queue) = mpsc::channel(QUEUED_MESSAGES);
        let inbox = Arc::new(Inbox::default());
        let (sink, stream) = socket.split();
        let mut tasks = JoinSet::new();
        tasks.spawn(wire::read(
            stream,
            Arc::clone(&inbox),
            name.to_owned(),
            followers.clone(),
        ));
        tasks.spawn(wire::write(sink, queue));
        Self {
            name: name.to_owned(),
            inbox,
            outgoing,
            followers,
            next_id: AtomicU64::new(1),
            _tasks: tasks,
        }
    }

    /// The subject of its token.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything received, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.inbox.all()
    }

    /// Everything received of one `type`, in order.
    #[must_use]
    pub fn received_of(&self, kind: &str) -> Vec<Arc<Received>> {
        self.received()
            .into_iter()
            .filter(|received| received.kind() == kind)
            .collect()
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When no answer comes in time.
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
            }),
            other => bail!("{what} is of type {other:?}: {}", received.message),
        }
    }

    /// Sends a request that must be granted: the response's payload.
    ///
    /// # Errors
    /// When it is refused, or no answer comes in time.
    pub async fn request(&self, kind: &str, payload: Value) -> Result<Value> {
        match self.ask(kind, payload).await? {
            Answer::Response(payload) => Ok(payload),
            Answer::Refusal { code, message } => bail!("{kind} of {} was refused: {code}: {message}", self.name),
        }
    }

    /// Sends a request that must be refused: the error's code.
    ///
    /// # Errors
    /// When it is granted, or no answer comes in time.
    pub async fn refused(&self, kind: &str, payload: Value) -> Result<String> {
        match self.ask(kind, payload).await? {
            Answer::Refusal { code, .. } => Ok(code),
            Answer::Response(payload) => bail!("{kind} of {} was granted: {payload}", self.name),
        }
    }

    /// Takes the next notice of one `type`.
    ///
    /// # Errors
    /// When none comes in time. The error lists what did come.
    pub async fn expect_notice(&self, kind: &str) -> Result<Arc<Received>> {
        self.expect_notice_within(kind, ANSWERED_WITHIN).await
    }

    /// Takes the next notice of one `type`, waiting no longer than told.
    ///
    /// # Errors
    /// When none comes in time. The error lists what did come.
    pub async fn expect_notice_within(&self, kind: &str, within: Duration) -> Result<Arc<Received>> {
        let what = format!("{kind} to {}", self.name);
        self.inbox.take(&what, within, |received| received.kind() == kind).await
    }

    /// Sends an envelope as it is.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&self, message: Value) -> Result<()> {
        self.send_raw(Message::text(message.to_string())).await?;
        if let Some(onlookers) = &self.followers.onlookers {
            let overheard = Overheard {
                party: self.name.clone(),
                way: Way::Out,
                message: Arc::new(message),
            };
            let _ = onlookers.send(overheard); // nobody may be looking
        }
        Ok(())
    }

    /// Sends anything: text that is no JSON, binary, ping.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_raw(&self, message: Message) -> Result<()> {
        let sent = self.outgoing.send(message).await;
        sent.with_context(|| format!("{} is not connected ({:?})", self.name, self.inbox.closed()))
    }

    /// Closes in good manners and waits for the other side to do the same.
    ///
    /// # Errors
    /// When the other side does not in time.
    pub async fn close(&self) -> Result<()> {
        self.send_raw(Message::Close(None)).await?;
        self.until_closed(ANSWERED_WITHIN).await.map(drop)
    }

    /// Waits until the connection is over, and returns why: for a close frame, its code and reason.
    ///
    /// # Errors
    /// When it still stands after `within`.
    pub async fn until_closed(&self, within: Duration) -> Result<String> {
        self.inbox
            .until_closed(within)
            .await
            .with_context(|| format!("the end of {}'s connection", self.name))
    }

    /// Why the connection is over, if it is.
    #[must_use]
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
    async fn tells_answers_from_notices() {
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
    async fn says_why_nothing_more_comes() {
        let party = Party::connect(stub().await, Role::User, "user_001").await.unwrap();
        party.close().await.unwrap();
        let error = party.expect_notice("tick").await.unwrap_err().to_string();
        assert!(error.starts_with("tick to user_001 can no longer come"), "{error}");
    }
}
