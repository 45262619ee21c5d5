//! The port to the stream `CALLS`. Each operation is a single attempt.
//!
//! [`crate::jetstream::fact_store`] decides about retries and rejections. A simulation implements the port with a simulated server,
//! so that these decisions are tested under faults that are rare on a real one.

use std::fmt::Debug;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;

use crate::jetstream::batch::BatchError;
pub use crate::jetstream::batch::Publication;
use crate::jetstream::commit::BatchSender;
use crate::jetstream::direct_reader::{DirectMessage, DirectReader, Request, Start};
use crate::jetstream::last_message::last_message;
use crate::jetstream::storage::CALLS;
use crate::wire::time::Timestamp;

/// A stored message.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// Its envelope.
    pub headers: HeaderMap,
    /// The payload.
    pub payload: Bytes,
}

/// The acknowledgement of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its message ID is known: it was stored before.
    pub duplicate: bool,
}

/// The clock of the server that stamps what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderTime {
    /// Its time.
    pub at: Timestamp,
    /// Its name, if the server tells one.
    pub leader: Option<String>,
}

/// Why a message is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAcknowledged {
    /// The condition failed (10071).
    WrongLastSequence,
    /// The message is rejected permanently.
    Unacceptable(String),
    /// No reply, or another rejection: a retry may help.
    Unanswered(String),
}

/// The stream.
pub trait FactStream: Debug + Send + Sync {
    /// Stores a message if its condition holds.
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Acknowledged, NotAcknowledged>>;

    /// Stores all of these or none, and returns the sequence of each.
    fn publish_batch(&self, publications: Vec<Publication>) -> BoxFuture<'_, Result<Vec<u64>, BatchError>>;

    /// The last message on a subject, which may have wildcards, from the stream's leader.
    fn last(&self, subject: String) -> BoxFuture<'_, Result<Option<StoredMessage>, String>>;

    /// The last message on each subject that matches one of the filters, from one replica at one time. The replica may lag behind
    /// the leader. At most [`MAX_ANSWER`](crate::jetstream::direct_reader::MAX_ANSWER) subjects may match.
    fn last_of_each(&self, filters: Vec<String>) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>>;

    /// The first messages on a subject at or after a sequence, in order, at most `limit` and
    /// [`MAX_ANSWER`](crate::jetstream::direct_reader::MAX_ANSWER), from any replica.
    fn page(&self, subject: String, from: u64, limit: usize) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>>;

    /// The time of the stream's leader. The answer needs no write, so the disk does not delay it.
    fn leader_time(&self) -> BoxFuture<'_, Result<LeaderTime, String>>;
}

/// The implementation on JetStream.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamFactStream {
    pub(crate) jetstream: jetstream::Context,
    pub(crate) calls: jetstream::stream::Stream,
    pub(crate) batches: BatchSender,
    pub(crate) reader: DirectReader,
}

impl FactStream for JetStreamFactStream {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Acknowledged, NotAcknowledged>> {
        let Publication {
            subject,
            headers,
            payload,
        } = publication;
        async move {
            let message = PublishMessage::build().payload(payload).headers(headers);
            let attempt = async { self.jetstream.send_publish(subject, message).await?.await };
            match attempt.await {
                Ok(ack) => Ok(Acknowledged {
                    sequence: ack.sequence,
                    duplicate: ack.duplicate,
                }),
                Err(error) => Err(match error.kind() {
                    PublishErrorKind::WrongLastSequence => NotAcknowledged::WrongLastSequence,
                    PublishErrorKind::MaxPayloadExceeded => NotAcknowledged::Unacceptable(error.to_string()),
                    _ => NotAcknowledged::Unanswered(error.to_string()),
                }),
            }
        }
        .boxed()
    }

    fn publish_batch(&self, publications: Vec<Publication>) -> BoxFuture<'_, Result<Vec<u64>, BatchError>> {
        self.batches.commit(publications).boxed()
    }

    fn last(&self, subject: String) -> BoxFuture<'_, Result<Option<StoredMessage>, String>> {
        async move {
            let last = last_message(&self.calls, &subject).await;
            last.map(|message| message.map(Into::into))
                .map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn last_of_each(&self, filters: Vec<String>) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        async move {
            let request = Request {
                multi_last: filters,
                ..Request::default()
            };
            let answer = self.reader.ask(&request).await.map_err(|error| error.to_string())?;
            Ok(answer.messages.into_iter().map(Into::into).collect())
        }
        .boxed()
    }

    fn page(&self, subject: String, from: u64, limit: usize) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        async move {
            let request = Request::page(&subject, Start::Sequence(from), limit);
            let answer = self.reader.ask(&request).await.map_err(|error| error.to_string())?;
            Ok(answer.messages.into_iter().map(Into::into).collect())
        }
        .boxed()
    }
    fn leader_time(&self) -> BoxFuture<'_, Result<LeaderTime, String>> {
        async move {
            let info = self.jetstream.request(format!("STREAM.INFO.{CALLS}"), &json!({})).await;
            match info.map_err(|error| error.to_string())? {
                Response::Ok(StreamInfo { ts, cluster }) => Ok(LeaderTime {
                    at: ts.into(),
                    leader: cluster.and_then(|cluster| cluster.leader),
                }),
                Response::Err { error } => Err(error.to_string()),
            }
        }
        .boxed()
    }
}

/// The fields of the server's `JSApiStreamInfoResponse` that the client leaves out. `ts` is the time of the answer.
#[derive(Deserialize)]
struct StreamInfo {
    ts: DateTime<Utc>,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    leader: Option<String>,
}

impl From<DirectMessage> for StoredMessage {
    fn from(message: DirectMessage) -> Self {
        Self {
            subject: message.subject,
            sequence: message.sequence,
            stored_at: message.stored_at,
            headers: message.headers,
            payload: message.payload,
        }
    }
}

impl From<jetstream::message::StreamMessage> for StoredMessage {
    fn from(message: jetstream::message::StreamMessage) -> Self {
        Self {
            subject: message.subject.to_string(),
            sequence: message.sequence,
            stored_at: message.time.into(),
            headers: message.headers,
            payload: message.payload,
        }
    }
}
