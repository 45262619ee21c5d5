//! The port to the stream `CALLS`. Each operation is a single attempt.
//!
//! [`crate::jetstream::fact_store`] decides about retries and rejections. A simulation implements the port with a simulated server,
//! so that these decisions are tested under faults that are rare on a real one.

use std::fmt::Debug;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::DirectGetErrorKind;
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::jetstream::batch::BatchError;
use crate::jetstream::direct_reader::{DirectReader, Query, Stored};
use crate::jetstream::last_message::last_message;

/// Timeout of a batch's reply: a leader that dies does not reply, and its successor is elected soon. A batch that is stored after
/// this timeout is found by reading back.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(3);

const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// A message to be stored. Its condition is a header.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The subject.
    pub subject: String,
    /// Envelope and condition.
    pub headers: HeaderMap,
    /// The payload.
    pub payload: Bytes,
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
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

    /// The first message on a subject at or after a sequence.
    fn next(&self, subject: String, sequence: u64) -> BoxFuture<'_, Result<Option<StoredMessage>, String>>;
}

/// The implementation on JetStream.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamFactStream {
    pub(crate) jetstream: jetstream::Context,
    pub(crate) calls: jetstream::stream::Stream,
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
        self.commit(publications).boxed()
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
            let query = Query {
                multi_last: filters,
                ..Query::default()
            };
            let answer = self.reader.ask(&query).await.map_err(|error| error.to_string())?;
            Ok(answer.messages.into_iter().map(Into::into).collect())
        }
        .boxed()
    }

    fn next(&self, subject: String, sequence: u64) -> BoxFuture<'_, Result<Option<StoredMessage>, String>> {
        async move {
            let next = self.calls.direct_get_next_for_subject(subject, Some(sequence));
            match next.await {
                Ok(message) => Ok(Some(message.into())),
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }
}

impl From<Stored> for StoredMessage {
    fn from(message: Stored) -> Self {
        Self {
            subject: message.subject,
            sequence: message.sequence,
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
            headers: message.headers,
            payload: message.payload,
        }
    }
}

#[derive(Deserialize)]
struct Commit {
    seq: u64,
    #[serde(default)]
    count: Option<usize>,
}

impl JetStreamFactStream {
    /// Source: NATS ADR-50 (nats-server 2.12). The entries of a batch are contiguous in the stream, so the acknowledgement of
    /// the last one gives the sequences of all.
    async fn commit(&self, publications: Vec<Publication>) -> Result<Vec<u64>, BatchError> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let client = self.jetstream.client();
        let unacknowledged = |error: &dyn std::fmt::Display| BatchError::Unacknowledged(error.to_string());
        let (size, mut answer) = (publications.len(), None);
        for (number, publication) in (1..).zip(publications) {
            let Publication {
                subject,
                mut headers,
                payload,
            } = publication;
            headers.insert(BATCH_ID, id.as_str());
            headers.insert(BATCH_SEQUENCE, number.to_string());
            if number < size {
                let sent = client.publish_with_headers(subject, headers, payload).await;
                sent.map_err(|error| unacknowledged(&error))?;
            } else {
                // The server replies once, at the commit, even if it discarded the batch at an earlier entry.
                headers.insert(BATCH_COMMIT, "1");
                let commit = async_nats::Request::new()
                    .headers(headers)
                    .payload(payload)
                    .timeout(Some(COMMIT_TIMEOUT));
                let sent = client.send_request(subject, commit).await;
                answer = Some(sent.map_err(|error| unacknowledged(&error))?);
            }
        }
        let answer = answer.ok_or(BatchError::Size(0))?;
        match serde_json::from_slice::<Response<Commit>>(&answer.payload) {
            Ok(Response::Ok(ack)) if ack.count.unwrap_or(1) == size => {
                let first = ack.seq.saturating_sub(size as u64 - 1);
                Ok((first..=ack.seq).collect())
            }
            Ok(Response::Ok(ack)) => Err(BatchError::Unacknowledged(format!(
                "{} of {size} entries are acknowledged",
                ack.count.unwrap_or(1),
            ))),
            Ok(Response::Err { error }) => Err(BatchError::Refused(error.to_string())),
            Err(error) => Err(unacknowledged(&error)),
        }
    }
}
