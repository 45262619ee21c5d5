//! Storing a fact once, and reading facts back.
//!
//! "Once" is the server's doing: a publication names the sequence that the subject (or the call) must end with, and is
//! refused with error 10071 otherwise. `Nats-Msg-Id` forgets after its window, an expected sequence does not. A refusal is
//! answered by reading back what is stored: the same content means that an earlier attempt had come through.
//! Source: NATS documentation, JetStream headers; measured facts in the project's design notes.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header;
use thiserror::Error;

use crate::jetstream::batch::{BatchError, Entry, MAX_BATCH};
use crate::jetstream::clock::{Clock, SystemClock};
use crate::jetstream::connection::Nats;
use crate::jetstream::direct_reader::{self, DirectReader};
use crate::jetstream::fact_stream::{FactStream, JetStreamFactStream, NotAcknowledged, Publication, StoredMessage};
use crate::jetstream::publish_condition::ExpectedSequence;
use crate::jetstream::storage::{CALLS, Storage};
use crate::wire::envelope::{self, Source, TraceParent};
use crate::wire::fact::{DecodeError, Fact, FactKind};
use crate::wire::id::CallId;
use crate::wire::subject;

/// First wait after a publication that was not acknowledged.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
/// Longest such wait.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);
/// Reads are answered by the leader and soon; afterwards they are an error to the caller.
const READ_ATTEMPTS: u32 = 5;
/// Calls of one [`FactStore::last_of_each_kind`]: the server's limit of matched subjects leaves room for 16 kinds of facts.
pub const MAX_CALLS_PER_READ: usize = direct_reader::MAX_ANSWER / 16;
/// Header that widens the expected sequence to a filter of subjects (nats-server 2.12).
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// A fact as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFact {
    /// What it says.
    pub fact: Fact,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its trace.
    pub trace: TraceParent,
}

/// How a publication ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored now.
    Stored(u64),
    /// It was stored already, by an earlier attempt.
    AlreadyStored(u64),
    /// The server let another one through; this is what stands there.
    Superseded(Box<StoredFact>),
    /// The guard does not hold, and there is no fact of this kind: the call has moved on otherwise.
    Refused,
}

impl Outcome {
    /// The sequence, if what is stored is what was to be stored.
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Self::Stored(sequence) | Self::AlreadyStored(sequence) => Some(*sequence),
            Self::Superseded(_) | Self::Refused => None,
        }
    }
}

/// Why a fact could not be stored or read, and never will be in this form. A server that is away is waited for.
#[derive(Debug, Error)]
pub enum FactError {
    /// It has no JSON form.
    #[error("the fact cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The server will not have it.
    #[error("{subject} is refused for good: {reason}")]
    Refused {
        /// Where it should go.
        subject: String,
        /// What the server says.
        reason: String,
    },
    /// What is stored there is not a fact.
    #[error("a stored message cannot be read: {0}")]
    Stored(#[from] DecodeError),
    /// The stream could not be read; trying again may help.
    #[error("{subject} could not be read: {reason}")]
    Read {
        /// What was asked for.
        subject: String,
        /// What NATS says.
        reason: String,
    },
}

pub use crate::jetstream::publish_condition::PublishCondition;

/// The stream of facts, as one service sees it.
#[derive(Debug, Clone)]
pub struct FactStore {
    stream: Arc<dyn FactStream>,
    clock: Arc<dyn Clock>,
    source: Source,
}

impl FactStore {
    /// `source` is what the facts of this process bear as their CloudEvents source.
    pub fn new(nats: &Nats, storage: &Storage, source: Source) -> Self {
        let stream = JetStreamFactStream {
            jetstream: nats.jetstream.clone(),
            calls: storage.calls.clone(),
            reader: DirectReader::new(nats.client.clone(), direct_reader::API_PREFIX, CALLS),
        };
        Self::over(Arc::new(stream), Arc::new(SystemClock), source)
    }

    /// Over another stream, by another clock: a simulation's.
    pub fn over(stream: Arc<dyn FactStream>, clock: Arc<dyn Clock>, source: Source) -> Self {
        Self { stream, clock, source }
    }

    /// Stores a fact under its guard, trying again with growing delays until the server acknowledges or refuses.
    ///
    /// Waits for as long as the server is away: callers that must not wait race it against a deadline and may drop it
    /// at any point, since a second attempt of the same fact is recognised.
    ///
    /// # Errors
    /// [`FactError`] if trying again cannot help.
    pub async fn publish(
        &self,
        fact: &Fact,
        guard: PublishCondition,
        trace: TraceParent,
    ) -> Result<Outcome, FactError> {
        self.store(fact, guard, trace, |stored| stored.fact == *fact).await
    }

    /// As [`FactStore::publish`], for one who goes on only as the first: two who say the same within one millisecond say it
    /// in the same words, and here the other one's supersede too. `trace` tells whose are stored, so it must be of this
    /// publication alone, and the guard must name a sequence.
    ///
    /// # Errors
    /// As [`FactStore::publish`].
    pub async fn publish_as_first(
        &self,
        fact: &Fact,
        guard: PublishCondition,
        trace: TraceParent,
    ) -> Result<Outcome, FactError> {
        let is_own = |stored: &StoredFact| stored.fact == *fact && stored.trace == trace;
        self.store(fact, guard, trace, is_own).await
    }

    async fn store(
        &self,
        fact: &Fact,
        guard: PublishCondition,
        trace: TraceParent,
        is_own: impl Fn(&StoredFact) -> bool,
    ) -> Result<Outcome, FactError> {
        let subject = fact.subject();
        let mut delay = RETRY_DELAY_MIN;
        loop {
            match self.attempt(fact, guard, trace, &is_own).await? {
                Ok(outcome) => return Ok(outcome),
                Err(reason) => tracing::warn!(%subject, reason, "a fact is not stored yet, trying again"),
            }
            self.clock.sleep(self.clock.jittered(delay)).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }

    /// What comes of one attempt, or why another one may help.
    async fn attempt(
        &self,
        fact: &Fact,
        guard: PublishCondition,
        trace: TraceParent,
        is_own: impl Fn(&StoredFact) -> bool,
    ) -> Result<Result<Outcome, String>, FactError> {
        let expected = match guard.expected() {
            Some(expected) => expected,
            None => match self.standing(fact, guard, &is_own).await {
                Ok(Ok(sequence)) => ExpectedSequence::LastOfCall(sequence),
                Ok(Err(outcome)) => return Ok(Ok(outcome)),
                Err(FactError::Read { reason, .. }) => return Ok(Err(reason)),
                Err(error) => return Err(error),
            },
        };
        let mut publication = self.publication(fact, expected, trace)?;
        if guard == PublishCondition::WhileOpen {
            publication.headers.insert(header::NATS_MESSAGE_ID, fact.event_id());
        }
        match self.stream.publish(publication).await {
            Ok(ack) if ack.duplicate => Ok(Ok(Outcome::AlreadyStored(ack.sequence))),
            Ok(ack) => Ok(Ok(Outcome::Stored(ack.sequence))),
            Err(NotAcknowledged::WrongLastSequence) if guard.expected().is_none() => {
                Ok(Err("the call has changed meanwhile".to_owned()))
            }
            Err(NotAcknowledged::WrongLastSequence) => match self.refused(fact, is_own).await {
                Err(FactError::Read { reason, .. }) => Ok(Err(format!("refused, and not read back: {reason}"))),
                // What stands in the way of a first fact can be read, unless an earlier attempt of it is still on its way
                // through the cluster, or a leader answered that is none any more.
                Ok(Outcome::Refused) if guard == PublishCondition::First => {
                    Ok(Err("refused for nothing that is stored".to_owned()))
                }
                outcome => outcome.map(Ok),
            },
            Err(NotAcknowledged::Unacceptable(reason)) => Err(FactError::Refused {
                subject: fact.subject(),
                reason,
            }),
            Err(NotAcknowledged::Unanswered(error)) => Ok(Err(error)),
        }
    }

    /// The sequence of the call's last fact, if the guard holds at that; or what comes of storing what it does not let in.
    async fn standing(
        &self,
        fact: &Fact,
        guard: PublishCondition,
        is_own: impl Fn(&StoredFact) -> bool,
    ) -> Result<Result<u64, Outcome>, FactError> {
        let call = fact.call_id();
        let Some(last) = self.last_message(subject::facts_of(call)).await? else {
            return Ok(Ok(0));
        };
        let kind = subject::parse_fact(&last.subject).map(|(_, kind)| kind);
        // All that there is before a connection and an end.
        if matches!(kind, Some(FactKind::Requested | FactKind::Accepted)) {
            return Ok(Ok(last.sequence));
        }
        let is_there = async |kind| {
            let message = self.last_message(subject::fact(call, kind)).await?;
            Ok::<_, FactError>(message.is_some())
        };
        if is_there(FactKind::Ended).await? {
            return self.refused(fact, is_own).await.map(Err);
        }
        match fact {
            // It would deny the connection that is stored.
            Fact::Ended(ended) if ended.connected_at.is_none() && is_there(FactKind::RtpDetected).await? => {
                Ok(Err(Outcome::Refused))
            }
            Fact::Ended(_) => Ok(Ok(last.sequence)),
            _ if guard == PublishCondition::OnceWhileOpen && is_there(fact.kind()).await? => {
                self.refused(fact, is_own).await.map(Err)
            }
            _ => Ok(Ok(last.sequence)),
        }
    }

    /// Stores all entries or none, and returns their sequences. This is a single attempt: the caller handles a rejection.
    ///
    /// # Errors
    /// [`BatchError`]
    pub async fn publish_batch(&self, entries: &[Entry]) -> Result<Vec<u64>, BatchError> {
        if entries.is_empty() || entries.len() > MAX_BATCH {
            return Err(BatchError::Size(entries.len()));
        }
        let mut publications = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(expected) = entry.condition.expected() else {
                return Err(BatchError::NoSequence(entry.fact.subject()));
            };
            publications.push(self.publication(&entry.fact, expected, entry.trace)?);
        }
        self.stream.publish_batch(publications).await
    }

    /// What [`FactStore::publish`] sends for a fact.
    fn publication(
        &self,
        fact: &Fact,
        expected: ExpectedSequence,
        trace: TraceParent,
    ) -> serde_json::Result<Publication> {
        let mut headers = envelope::headers(fact, &self.source, trace);
        headers.insert(header::NATS_EXPECTED_STREAM, CALLS);
        let sequence = match expected {
            ExpectedSequence::NoneOfItsKind => 0,
            ExpectedSequence::LastOfCall(sequence) => {
                headers.insert(EXPECTED_SUBJECT, subject::facts_of(fact.call_id()));
                sequence
            }
        };
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
        Ok(Publication {
            subject: fact.subject(),
            headers,
            payload: fact.encode()?,
        })
    }

    async fn refused(&self, fact: &Fact, is_own: impl Fn(&StoredFact) -> bool) -> Result<Outcome, FactError> {
        Ok(match self.last(fact.call_id(), fact.kind()).await? {
            Some(stored) if is_own(&stored) => Outcome::AlreadyStored(stored.sequence),
            Some(stored) => Outcome::Superseded(Box::new(stored)),
            None => Outcome::Refused,
        })
    }

    /// The call's last fact of a kind, read from the stream's leader: what was acknowledged is seen.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not answer, [`FactError::Stored`] if what is stored is no fact.
    pub async fn last(&self, call: &CallId, kind: FactKind) -> Result<Option<StoredFact>, FactError> {
        self.last_on(subject::fact(call, kind)).await
    }

    /// The call's last fact of any kind, see [`FactStore::last`].
    ///
    /// # Errors
    /// As [`FactStore::last`].
    pub async fn last_of_call(&self, call: &CallId) -> Result<Option<StoredFact>, FactError> {
        self.last_on(subject::facts_of(call)).await
    }

    /// The last stored message of each kind of these calls, from any replica: it may lag, but what it returns of one call is
    /// what it had at one moment. At most [`MAX_CALLS_PER_READ`] calls.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not answer, or if too many messages match.
    pub async fn last_of_each_kind(&self, calls: &[CallId]) -> Result<Vec<StoredMessage>, FactError> {
        let filters = calls.iter().map(subject::facts_of).collect();
        let messages = self.stream.last_of_each(filters).await;
        messages.map_err(|reason| FactError::Read {
            subject: subject::ALL_FACTS.to_owned(),
            reason,
        })
    }

    /// The sequence of the call's last fact of any kind, readable or not; 0 if it has none: for [`PublishCondition::CallUnchangedSince`].
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not answer.
    pub async fn sequence_of_call(&self, call: &CallId) -> Result<u64, FactError> {
        let last = self.last_message(subject::facts_of(call)).await?;
        Ok(last.map_or(0, |message| message.sequence))
    }

    async fn last_on(&self, subject: String) -> Result<Option<StoredFact>, FactError> {
        let last = self.last_message(subject).await?;
        last.as_ref().map(stored).transpose()
    }

    async fn last_message(&self, subject: String) -> Result<Option<StoredMessage>, FactError> {
        let mut failure = String::new();
        for attempt in 0..READ_ATTEMPTS {
            if attempt > 0 {
                let delay = RETRY_DELAY_MIN * 2u32.saturating_pow(attempt);
                self.clock.sleep(self.clock.jittered(delay)).await;
            }
            match self.stream.last(subject.clone()).await {
                Ok(message) => return Ok(message),
                Err(reason) => failure = reason,
            }
        }
        Err(FactError::Read {
            subject,
            reason: failure,
        })
    }

    /// The first fact of a call at or after a sequence; iterate with `sequence + 1` for all of them, in order.
    ///
    /// # Errors
    /// As [`FactStore::last`].
    pub async fn next_of_call(&self, call: &CallId, sequence: u64) -> Result<Option<StoredFact>, FactError> {
        let subject = subject::facts_of(call);
        match self.stream.next(subject.clone(), sequence).await {
            Ok(Some(message)) => Ok(Some(stored(&message)?)),
            Ok(None) => Ok(None),
            Err(reason) => Err(FactError::Read { subject, reason }),
        }
    }
}

fn stored(message: &StoredMessage) -> Result<StoredFact, FactError> {
    Ok(StoredFact {
        fact: Fact::decode(&message.subject, &message.payload)?,
        sequence: message.sequence,
        trace: TraceParent::of(Some(&message.headers)),
    })
}

#[cfg(test)]
mod tests;
