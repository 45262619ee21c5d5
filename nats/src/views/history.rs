//! Reading what is stored of calls: one call's facts in order, many calls' last ones, or everything from a point on.
//!
//! For whoever shows or exports calls. A service that acts on facts has a consumer; nothing here acknowledges anything.

use async_nats::Client;

use crate::jetstream::connection::Nats;
use crate::jetstream::direct_reader::{API_PREFIX, Answer, DirectReader, Query, Stored};
use crate::jetstream::storage::CALLS;
use crate::wire::envelope::{CE_SOURCE, TraceParent};
use crate::wire::fact::{DecodeError, Fact, FactKind};
use crate::wire::id::CallId;
use crate::wire::subject;
use crate::wire::time::Timestamp;

pub use crate::jetstream::direct_reader::{MAX_ANSWER, ReadError};

/// A stored fact with all that is known of how it was stored.
#[derive(Debug)]
pub struct Recorded {
    /// Where it is stored.
    pub subject: String,
    /// What it says; a message that is no fact is shown as such, not left out.
    pub fact: Result<Fact, DecodeError>,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// Who published it (CloudEvents `source`), such as `/media-worker/mw_1`.
    pub source: Option<String>,
    /// Its trace.
    pub trace: TraceParent,
}

/// Facts in the order in which they were stored.
#[derive(Debug)]
pub struct Page {
    /// At most as many as were asked for.
    pub facts: Vec<Recorded>,
    /// There are more: go on at the last one's sequence + 1.
    pub more: bool,
}

/// From where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A sequence; 0 is the beginning.
    Sequence(u64),
    /// What was stored at that time or later.
    Time(Timestamp),
}

/// The most facts of one call that [`History::of_call`] reads: a call of a day and a half has as many minutes.
pub const MAX_OF_CALL: usize = 2_048;

/// The stream of facts, to be read.
#[derive(Debug, Clone)]
pub struct History {
    reader: DirectReader,
}

impl History {
    /// As one of our own services.
    pub fn new(nats: &Nats) -> Self {
        Self::with_prefix(nats.client.clone(), API_PREFIX)
    }

    /// As somebody who finds JetStream elsewhere: another team under `CALLPULSE.API`.
    pub fn with_prefix(client: Client, api_prefix: &str) -> Self {
        Self {
            reader: DirectReader::new(client, api_prefix, CALLS),
        }
    }

    /// The sequence of the last fact there is; 0 if there is none.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn last_sequence(&self) -> Result<u64, ReadError> {
        self.reader.last_sequence(subject::ALL_FACTS).await
    }

    /// Facts of all calls, of one kind or of every kind, at most `limit` ([`MAX_ANSWER`]).
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn page(&self, kind: Option<FactKind>, from: Start, limit: usize) -> Result<Page, ReadError> {
        let filter = kind.map_or_else(|| subject::ALL_FACTS.to_owned(), subject::facts_of_kind);
        self.next(filter, from, limit).await
    }

    /// The facts of one call in order, at most [`MAX_OF_CALL`].
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn of_call(&self, call: &CallId) -> Result<Page, ReadError> {
        let mut whole = Page {
            facts: Vec::new(),
            more: true,
        };
        while whole.more && whole.facts.len() < MAX_OF_CALL {
            let from = Start::Sequence(whole.facts.last().map_or(0, |last| last.sequence + 1));
            let limit = MAX_OF_CALL - whole.facts.len();
            let page = self.next(subject::facts_of(call), from, limit).await?;
            // An answer without facts says that there are none, whatever else it says.
            whole.more = page.more && !page.facts.is_empty();
            whole.facts.extend(page.facts);
        }
        Ok(whole)
    }

    /// Each call's last fact of each kind: enough for a [`CallView`](crate::views::call_view::CallView), however long the call.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn last_of_calls(&self, calls: &[CallId]) -> Result<Vec<Recorded>, ReadError> {
        let mut facts = Vec::new();
        for calls in calls.chunks(MAX_ANSWER / FactKind::ALL.len()) {
            let query = Query {
                multi_last: calls.iter().map(subject::facts_of).collect(),
                batch: Some(MAX_ANSWER),
                ..Query::default()
            };
            facts.extend(recorded(self.reader.ask(&query).await?).facts);
        }
        Ok(facts)
    }

    async fn next(&self, filter: String, from: Start, limit: usize) -> Result<Page, ReadError> {
        let (seq, start_time) = match from {
            Start::Sequence(sequence) => (Some(sequence.max(1)), None),
            Start::Time(time) => (None, Some(time)),
        };
        let query = Query {
            seq,
            start_time,
            next_by_subj: Some(filter),
            batch: Some(limit.clamp(1, MAX_ANSWER)),
            ..Query::default()
        };
        Ok(recorded(self.reader.ask(&query).await?))
    }
}

fn recorded(answer: Answer) -> Page {
    Page {
        facts: answer.messages.into_iter().map(Recorded::from_stored).collect(),
        more: answer.more,
    }
}

impl Recorded {
    pub(crate) fn from_stored(message: Stored) -> Self {
        Self {
            fact: Fact::decode(&message.subject, &message.payload),
            sequence: message.sequence,
            stored_at: message.stored_at,
            source: message.headers.get(CE_SOURCE).map(ToString::to_string),
            trace: TraceParent::of(Some(&message.headers)),
            subject: message.subject,
        }
    }
}
