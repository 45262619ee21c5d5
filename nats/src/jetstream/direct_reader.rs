//! Reads stored messages by batched direct get (NATS ADR-31, nats-server 2.11).
//!
//! A direct get needs no consumer: nothing is left on the server if the reader dies, and read access is sufficient. Any replica
//! may answer, and it may lag behind the leader.

use std::time::Duration;

use async_nats::header::{self, IntoHeaderName};
use async_nats::{Client, HeaderMap, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;
use thiserror::Error;

use crate::wire::time::Timestamp;

/// The most messages of one answer (a limit of the server for `multi_last`).
pub const MAX_ANSWER: usize = 1024;
/// Deadline of the next message of an answer.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Status of the message that ends an answer.
const END_OF_BATCH: u16 = 204;
const NUM_PENDING: &str = "Nats-Num-Pending";

/// Stored messages could not be read. A retry may succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{stream} could not be read: {reason}")]
pub struct ReadError {
    /// The stream that was read.
    pub stream: String,
    /// Why the read failed.
    pub reason: String,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this sequence or the next one that exists; 0 is the beginning.
    Sequence(u64),
    /// At the first message stored at this time or later.
    Time(Timestamp),
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct DirectMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// Its headers, with those that the server adds.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

/// The answer to one request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) messages: Vec<DirectMessage>,
    /// The replica that answered has more messages.
    pub(crate) more: bool,
}

/// The fields of the server's `JSApiMsgGetRequest` that are used here.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_by_subj: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_by_subj: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) multi_last: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<usize>,
}

impl Request {
    /// The first messages from `start` on subjects that match `filter`, at most `limit` and [`MAX_ANSWER`].
    pub(crate) fn page(filter: &str, start: Start, limit: usize) -> Self {
        let (seq, start_time) = match start {
            Start::Sequence(sequence) => (Some(sequence.max(1)), None),
            Start::Time(time) => (None, Some(time)),
        };
        Self {
            seq,
            start_time,
            next_by_subj: Some(filter.to_owned()),
            batch: Some(limit.clamp(1, MAX_ANSWER)),
            ..Self::default()
        }
    }
}

/// Reads one stream.
#[derive(Debug, Clone)]
pub(crate) struct DirectReader {
    client: Client,
    stream: String,
    subject: String,
    message_timeout: Duration,
}

impl DirectReader {
    pub(crate) fn new(client: Client, api_prefix: &str, stream: &str) -> Self {
        Self {
            client,
            subject: format!("{api_prefix}.DIRECT.GET.{stream}"),
            stream: stream.to_owned(),
            message_timeout: MESSAGE_TIMEOUT,
        }
    }

    pub(crate) fn with_message_timeout(self, message_timeout: Duration) -> Self {
        Self {
            message_timeout,
            ..self
        }
    }

    /// The sequence of the last message on subjects that match `filter`; 0 without one.
    pub(crate) async fn last_sequence(&self, filter: &str) -> Result<u64, ReadError> {
        let request = Request {
            last_by_subj: Some(filter.to_owned()),
            ..Request::default()
        };
        let answer = self.ask(&request).await?;
        Ok(answer.messages.first().map_or(0, |message| message.sequence))
    }

    /// Sends one request. The answer is complete or an error: every message of a batch names the sequence of the previous one.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, ReadError> {
        let batched = request.batch.is_some() || !request.multi_last.is_empty();
        let payload = serde_json::to_vec(request).map_err(|error| self.failed(error))?;
        // A new inbox for every request, so that a late message cannot become part of another answer.
        let inbox = self.client.new_inbox();
        let mut messages = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| self.failed(error))?;
        self.client
            .publish_with_reply(self.subject.clone(), inbox, payload.into())
            .await
            .map_err(|error| self.failed(error))?;
        let mut answer = Answer::default();
        loop {
            let next = tokio::time::timeout(self.message_timeout, messages.next()).await;
            let message = next.map_err(|_| self.failed("timeout"))?;
            let message = message.ok_or_else(|| self.failed("the connection is closed"))?;
            let headers = message.headers.unwrap_or_default();
            match message.status {
                None => {
                    self.check_previous(&headers, &answer)?;
                    answer.messages.push(self.decode(headers, message.payload)?);
                    if !batched {
                        return Ok(answer);
                    }
                }
                Some(status) if status.as_u16() == END_OF_BATCH => {
                    self.check_previous(&headers, &answer)?;
                    answer.more = number(&headers, NUM_PENDING).is_some_and(|pending| pending > 0);
                    return Ok(answer);
                }
                Some(StatusCode::NOT_FOUND) if answer.messages.is_empty() => return Ok(answer),
                Some(StatusCode::NO_RESPONDERS) => return Err(self.failed("no server answers")),
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    return Err(self.failed(format!("{status} {description}")));
                }
            }
        }
    }

    fn check_previous(&self, headers: &HeaderMap, answer: &Answer) -> Result<(), ReadError> {
        let received = answer.messages.last().map_or(0, |message| message.sequence);
        match number(headers, header::NATS_LAST_SEQUENCE) {
            Some(sent) if sent != received => Err(self.failed("a message of the answer was lost")),
            _ => Ok(()),
        }
    }

    fn decode(&self, headers: HeaderMap, payload: Bytes) -> Result<DirectMessage, ReadError> {
        let subject = headers.get(header::NATS_SUBJECT).map(ToString::to_string);
        let sequence = number(&headers, header::NATS_SEQUENCE);
        let stored_at = headers
            .get(header::NATS_TIME_STAMP)
            .and_then(|time| DateTime::parse_from_rfc3339(time.as_str()).ok())
            .map(|time| time.with_timezone(&Utc).into());
        match (subject, sequence, stored_at) {
            (Some(subject), Some(sequence), Some(stored_at)) => Ok(DirectMessage {
                subject,
                sequence,
                stored_at,
                headers,
                payload,
            }),
            _ => Err(self.failed("a message without subject, sequence or time")),
        }
    }

    pub(crate) fn failed(&self, reason: impl std::fmt::Display) -> ReadError {
        ReadError {
            stream: self.stream.clone(),
            reason: reason.to_string(),
        }
    }
}

fn number(headers: &HeaderMap, name: impl IntoHeaderName) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
