//! A stream, read from one point to another in pages: batched direct gets (NATS ADR-31, nats-server 2.11).
//!
//! Reading leaves nothing behind, needs no more than the right to read, and gives 1,000 messages for one question. Any
//! replica may answer, so what is read is held against what the leader said: neither a message lost on the way nor a
//! replica that lags can pass for facts that are missing.

use std::time::Duration;

use async_nats::header::{HeaderName, HeaderValue, NATS_LAST_SEQUENCE, NATS_SEQUENCE, NATS_SUBJECT, NATS_TIME_STAMP};
use async_nats::{Client, StatusCode};
use contract::Timestamp;
use futures::StreamExt;
use serde::Serialize;
use thiserror::Error;

use super::window;

/// Messages of one page.
const PAGE: usize = 1_000;
/// How long the next message of a page may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A page is asked for this often before the reader gives up.
const ATTEMPTS: u32 = 8;
/// How much longer the wait is before each further attempt.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// The server's mark for the end of a page.
const END_OF_PAGE: u16 = 204;

/// The stream could not be read; trying again may help.
#[derive(Debug, Error)]
#[error("{stream} could not be read: {reason}")]
pub(crate) struct ReadError {
    stream: &'static str,
    reason: String,
}

/// A stored message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    pub(crate) stored_at: Timestamp,
    pub(crate) subject: String,
    raw: async_nats::Message,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    At(Timestamp),
    Sequence(u64),
}

/// What there is to read, as the stream's leader says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    /// The last sequence; 0 if nothing is stored.
    pub(crate) sequence: u64,
    /// When it was stored.
    pub(crate) stored_at: Timestamp,
}

#[derive(Serialize)]
struct Question<'a> {
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_by_subj: Option<&'a str>,
}

/// A stream, or the part of it on some subjects.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    client: Client,
    stream: &'static str,
    filter: Option<String>,
    next: Start,
    last: Last,
}

impl Pages {
    pub(crate) fn new(client: &Client, stream: &'static str, filter: Option<String>, first: Start, last: Last) -> Self {
        Self {
            client: client.clone(),
            stream,
            filter,
            next: first,
            last,
        }
    }

    /// The next page; empty at the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<Message>, ReadError> {
        let mut failure = String::new();
        for attempt in 1..=ATTEMPTS {
            if self.is_at_the_end() {
                return Ok(Vec::new());
            }
            match self.ask().await {
                Ok(mut page) => {
                    page.retain(|message| message.sequence <= self.last.sequence);
                    if let Some(message) = page.last() {
                        self.next = Start::Sequence(message.sequence + 1);
                        return Ok(page);
                    }
                    // On some subjects there may be nothing up to the last one.
                    if self.filter.is_some() {
                        return Ok(Vec::new());
                    }
                    let last = self.last.sequence;
                    failure = format!("whoever answers does not have sequence {last} yet");
                }
                Err(reason) => failure = reason,
            }
            tracing::debug!(stream = self.stream, reason = failure, "a page could not be read yet");
            tokio::time::sleep(RETRY_DELAY * attempt).await;
        }
        Err(ReadError {
            stream: self.stream,
            reason: failure,
        })
    }

    fn is_at_the_end(&self) -> bool {
        match self.next {
            Start::Sequence(next) => next > self.last.sequence,
            Start::At(moment) => self.last.sequence == 0 || self.last.stored_at < moment,
        }
    }

    async fn ask(&self) -> Result<Vec<Message>, String> {
        let (seq, start_time) = match self.next {
            Start::Sequence(sequence) => (Some(sequence), None),
            Start::At(moment) => (None, Some(moment)),
        };
        let question = Question {
            batch: PAGE,
            seq,
            start_time,
            next_by_subj: self.filter.as_deref(),
        };
        let question = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        // One inbox a question: what comes late for an earlier attempt must not get among the answers.
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(inbox.clone()).await;
        let mut answers = subscribed.map_err(|error| error.to_string())?;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let asked = self.client.publish_with_reply(subject, inbox, question.into()).await;
        asked.map_err(|error| error.to_string())?;
        let mut page: Vec<Message> = Vec::with_capacity(PAGE);
        loop {
            let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
            let answer = answer
                .map_err(|_| "no answer in time")?
                .ok_or("the connection is closed")?;
            match answer.status {
                Some(StatusCode::NOT_FOUND) => return Ok(page),
                Some(status) if status.as_u16() != END_OF_PAGE => {
                    let description = answer.description.as_deref().unwrap_or_default();
                    return Err(format!("{status} {description}"));
                }
                status => {
                    let before = page.last().map_or(0, |message| message.sequence);
                    if number(&answer, NATS_LAST_SEQUENCE).is_some_and(|last| last != before) {
                        return Err("a message of the answer was lost".to_owned());
                    }
                    if status.is_some() {
                        return Ok(page);
                    }
                    page.push(message(answer).ok_or("an answer does not say what it is")?);
                }
            }
        }
    }
}

impl Message {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.raw.payload
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.raw.headers.as_ref()?;
        headers.get(name).map(HeaderValue::as_str)
    }
}

fn message(raw: async_nats::Message) -> Option<Message> {
    let headers = raw.headers.as_ref()?;
    Some(Message {
        sequence: number(&raw, NATS_SEQUENCE)?,
        stored_at: window::moment(headers.get(NATS_TIME_STAMP)?.as_str()).ok()?,
        subject: headers.get(NATS_SUBJECT)?.as_str().to_owned(),
        raw,
    })
}

fn number(raw: &async_nats::Message, name: HeaderName) -> Option<u64> {
    raw.headers.as_ref()?.get(name)?.as_str().parse().ok()
}
