//! Reading many stored messages with one question: batched direct gets (NATS ADR-31, nats-server 2.11).
//!
//! No consumer is made for it: nothing is left on the server when the reader dies, and who may only read can do it.

use std::time::Duration;

use async_nats::header::{self, IntoHeaderName};
use async_nats::{Client, HeaderMap, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;
use thiserror::Error;

use crate::wire::time::Timestamp;

/// Where JetStream is asked, for who lives in its account.
pub(crate) const API_PREFIX: &str = "$JS.API";
/// The most messages of one answer (a limit of the server for `multi_last`).
pub const MAX_ANSWER: usize = 1024;
/// How long the next message of an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What ends an answer.
const EOB: u16 = 204;
const NUM_PENDING: &str = "Nats-Num-Pending";

/// Why stored messages could not be read; trying again may help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{stream} could not be read: {reason}")]
pub struct ReadError {
    /// The stream.
    pub stream: String,
    /// What NATS says.
    pub reason: String,
}

/// A stored message as the server gives it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) stored_at: Timestamp,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// What was asked for, and whether there is more of it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) messages: Vec<Stored>,
    pub(crate) more: bool,
}

/// `JSApiMsgGetRequest` of the server, as far as it is used here.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Query {
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

/// A stream to be read.
#[derive(Debug, Clone)]
pub(crate) struct DirectReader {
    client: Client,
    stream: String,
    subject: String,
}

impl DirectReader {
    pub(crate) fn new(client: Client, api_prefix: &str, stream: &str) -> Self {
        Self {
            client,
            subject: format!("{api_prefix}.DIRECT.GET.{stream}"),
            stream: stream.to_owned(),
        }
    }

    /// The sequence of the last message on subjects that match `filter`; 0 if there is none.
    pub(crate) async fn last_sequence(&self, filter: &str) -> Result<u64, ReadError> {
        let query = Query {
            last_by_subj: Some(filter.to_owned()),
            ..Query::default()
        };
        Ok(self
            .ask(&query)
            .await?
            .messages
            .first()
            .map_or(0, |message| message.sequence))
    }

    /// One question, one answer. A failure may have come after some of the messages: none of them is given then.
    pub(crate) async fn ask(&self, query: &Query) -> Result<Answer, ReadError> {
        let batched = query.batch.is_some() || !query.multi_last.is_empty();
        let payload = serde_json::to_vec(query).map_err(|error| self.failed(error))?;
        let inbox = self.client.new_inbox();
        let mut answers = self
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
            let next = tokio::time::timeout(PATIENCE, answers.next()).await;
            let message = next.map_err(|_| self.failed("no answer in time"))?;
            let message = message.ok_or_else(|| self.failed("the connection is closed"))?;
            let headers = message.headers.unwrap_or_default();
            match message.status {
                None => {
                    answer.messages.push(self.stored(headers, message.payload)?);
                    if !batched {
                        return Ok(answer);
                    }
                }
                Some(status) if status.as_u16() == EOB => {
                    answer.more = number(&headers, NUM_PENDING).is_some_and(|pending| pending > 0);
                    return Ok(answer);
                }
                Some(StatusCode::NOT_FOUND) => return Ok(answer),
                Some(StatusCode::NO_RESPONDERS) => return Err(self.failed("JetStream does not answer")),
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    return Err(self.failed(format!("{status} {description}")));
                }
            }
        }
    }

    fn stored(&self, headers: HeaderMap, payload: Bytes) -> Result<Stored, ReadError> {
        let subject = headers.get(header::NATS_SUBJECT).map(ToString::to_string);
        let sequence = number(&headers, header::NATS_SEQUENCE);
        let stored_at = headers
            .get(header::NATS_TIME_STAMP)
            .and_then(|time| DateTime::parse_from_rfc3339(time.as_str()).ok())
            .map(|time| time.with_timezone(&Utc).into());
        match (subject, sequence, stored_at) {
            (Some(subject), Some(sequence), Some(stored_at)) => Ok(Stored {
                subject,
                sequence,
                stored_at,
                headers,
                payload,
            }),
            _ => Err(self.failed("an answer does not say what it is")),
        }
    }

    fn failed(&self, reason: impl std::fmt::Display) -> ReadError {
        ReadError {
            stream: self.stream.clone(),
            reason: reason.to_string(),
        }
    }
}

fn number(headers: &HeaderMap, name: impl IntoHeaderName) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
