//! Reads stored facts: those of one call, the last ones of many calls, or a page from a point on.
//!
//! For observers. The answer comes from any replica and may lack the newest facts; a complete read is
//! [`StoredMessages`](crate::jetstream::stored_messages::StoredMessages).

use async_nats::Client;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::jetstream::connection::{API_PREFIX, Nats};
use crate::jetstream::direct_reader::{Answer, DirectMessage, DirectReader, Request};
use crate::jetstream::fact_store::MAX_CALLS_PER_READ;
use crate::jetstream::storage::CALLS;
use crate::wire::envelope::{CE_SOURCE, TraceParent};
use crate::wire::fact::{Fact, FactKind};
use crate::wire::fact_codec::DecodeError;
use crate::wire::id::CallId;
use crate::wire::subject;
use crate::wire::time::Timestamp;
use crate::wire::unknown::Unknown;

pub use crate::jetstream::direct_reader::{MAX_ANSWER, ReadError, Start};

/// A stored fact with its envelope.
#[derive(Debug)]
pub struct Recorded {
    /// Its subject.
    pub subject: String,
    /// The fact, or why it was not decoded.
    pub fact: Result<Fact, DecodeError>,
    /// The payload as it is stored.
    pub payload: Bytes,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// Its publisher (CloudEvents `source`), such as `/media-worker/mw_1`.
    pub source: Option<String>,
    /// Its trace.
    pub trace: TraceParent,
}

/// Facts in the order in which they were stored.
#[derive(Debug)]
pub struct Page {
    /// The facts, at most as many as requested.
    pub facts: Vec<Recorded>,
    /// More follow, from the sequence of the last one + 1.
    pub more: bool,
}

/// The most facts of one call that [`History::of_call`] reads: the ticks of a day and a half.
pub const MAX_OF_CALL: usize = 2_048;

/// Requests of one [`History::last_of_calls`] that run concurrently.
const CONCURRENT_READS: usize = 4;

/// Reads the stream of facts.
#[derive(Debug, Clone)]
pub struct History {
    reader: DirectReader,
}

impl History {
    /// For a service.
    pub fn new(nats: &Nats) -> Self {
        Self::with_prefix(nats.client.clone(), API_PREFIX)
    }

    /// With another prefix of JetStream's API: `CALLPULSE.API` for users of other accounts.
    pub fn with_prefix(client: Client, api_prefix: &str) -> Self {
        Self {
            reader: DirectReader::new(client, api_prefix, CALLS),
        }
    }

    /// The sequence of the last fact; 0 without one.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn last_sequence(&self) -> Result<u64, ReadError> {
        self.reader.last_sequence(subject::ALL_FACTS).await
    }

    /// Facts of all calls, of one kind or of all, at most `limit` and [`MAX_ANSWER`].
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn page(&self, kind: Option<FactKind>, from: Start, limit: usize) -> Result<Page, ReadError> {
        let filter = kind.map_or_else(|| subject::ALL_FACTS.to_owned(), subject::facts_of_kind);
        self.read(filter, from, limit).await
    }

    /// The facts of one call in order, at most [`MAX_OF_CALL`].
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn of_call(&self, call: &CallId) -> Result<Page, ReadError> {
        let mut all = Page {
            facts: Vec::new(),
            more: true,
        };
        while all.more && all.facts.len() < MAX_OF_CALL {
            let from = Start::Sequence(all.facts.last().map_or(0, |last| last.sequence + 1));
            let limit = MAX_OF_CALL - all.facts.len();
            let page = self.read(subject::facts_of(call), from, limit).await?;
            // An answer without facts is the end, whatever its `more`.
            all.more = page.more && !page.facts.is_empty();
            all.facts.extend(page.facts);
        }
        Ok(all)
    }

    /// Each call's last fact of each kind: enough for a [`CallView`](crate::views::call_view::CallView), however long the call.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn last_of_calls(&self, calls: &[CallId]) -> Result<Vec<Recorded>, ReadError> {
        let reads: Vec<_> = calls
            .chunks(MAX_CALLS_PER_READ)
            .map(|calls| {
                let reader = self.reader.clone();
                let request = Request {
                    multi_last: calls.iter().map(subject::facts_of).collect(),
                    batch: Some(MAX_ANSWER),
                    ..Request::default()
                };
                async move { Ok(recorded(reader.ask(&request).await?).facts) }
            })
            .collect();
        stream::iter(reads).buffered(CONCURRENT_READS).try_concat().await
    }

    async fn read(&self, filter: String, from: Start, limit: usize) -> Result<Page, ReadError> {
        let request = Request::page(&filter, from, limit);
        Ok(recorded(self.reader.ask(&request).await?))
    }
}

fn recorded(answer: Answer) -> Page {
    Page {
        facts: answer.messages.into_iter().map(Recorded::from_stored).collect(),
        more: answer.more,
    }
}

impl Recorded {
    /// Decodes a message of the stream of facts.
    pub fn from_stored(message: DirectMessage) -> Self {
        Self {
            fact: Fact::decode(&message.subject, &message.payload),
            sequence: message.sequence,
            stored_at: message.stored_at,
            source: message.headers.get(CE_SOURCE).map(ToString::to_string),
            trace: TraceParent::of(Some(&message.headers)),
            payload: message.payload,
            subject: message.subject,
        }
    }

    /// What this version does not know of it.
    pub fn unknown(&self) -> Unknown {
        Unknown::of(&self.fact, &self.payload)
    }

    /// Why it is not a fact; `None` for a fact, also for one of an unknown kind.
    pub fn error(&self) -> Option<&DecodeError> {
        self.fact
            .as_ref()
            .err()
            .filter(|error| !matches!(error, DecodeError::UnknownKind { .. }))
    }

    /// The payload with all its fields, also unknown ones; null if this is not a fact.
    pub fn json(&self) -> Value {
        let payload = || serde_json::from_slice(&self.payload);
        match self.error() {
            // An unknown kind may have any form.
            None => payload().unwrap_or_else(|_| String::from_utf8_lossy(&self.payload).into()),
            Some(_) => Value::Null,
        }
    }
}
