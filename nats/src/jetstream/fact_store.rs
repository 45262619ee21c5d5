//! Storing a fact once; [`reads`] reads facts back.
//!
//! The server enforces "once": a publication names the last sequence of its subject or call, and the server rejects it with
//! error 10071 if that sequence differs. Unlike `Nats-Msg-Id`, which is forgotten after the duplicate window, this holds without
//! limit. After a rejection the publisher reads the stored fact: the same content means that an earlier attempt succeeded.
//! Source: NATS documentation, JetStream headers.

mod reads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{HeaderName, header};
use thiserror::Error;
use tracing::Instrument as _;

use crate::call_span;
use crate::jetstream::batch::{BatchError, Entry, MAX_BATCH};
use crate::jetstream::clock::{Clock, SystemClock};
use crate::jetstream::commit::BatchSender;
use crate::jetstream::connection::{API_PREFIX, Nats};
use crate::jetstream::direct_reader::DirectReader;
use crate::jetstream::fact_stream::{FactStream, JetStreamFactStream, NotAcknowledged, Publication};
use crate::jetstream::publish_condition::ExpectedSequence;
use crate::jetstream::storage::{CALLS, Storage};
use crate::spans;
use crate::wire::envelope::{self, Source, TraceParent};
use crate::wire::fact::{Fact, FactKind};
use crate::wire::fact_codec::DecodeError;
use crate::wire::subject;

/// First wait after a publication that was not acknowledged.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
/// Longest wait between attempts.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);
/// Header that widens the expected sequence to a filter of subjects (nats-server 2.12).
const EXPECTED_SUBJECT: HeaderName = HeaderName::from_static("Nats-Expected-Last-Subject-Sequence-Subject");

/// The outcome of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored(u64),
    /// Stored by an earlier attempt.
    AlreadyStored(u64),
    /// Another fact of this kind is stored.
    Superseded(Box<StoredFact>),
    /// The condition failed, and no fact of this kind is stored: the call has progressed in another way.
    ConditionFailed,
}

impl Outcome {
    /// The sequence, if this fact is the stored one.
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Self::Stored(sequence) | Self::AlreadyStored(sequence) => Some(*sequence),
            Self::Superseded(_) | Self::ConditionFailed => None,
        }
    }
}

/// Why a fact could not be stored or read. A retry does not help, except for [`FactError::Read`]: publications wait for a server
/// that is unreachable.
#[derive(Debug, Error)]
pub enum FactError {
    /// The fact has no JSON form.
    #[error("the fact cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The server rejects it permanently.
    #[error("{subject} is refused for good: {reason}")]
    Rejected {
        /// The subject.
        subject: String,
        /// The error of the server.
        reason: String,
    },
    /// The stored message is not a fact.
    #[error("a stored message cannot be read: {0}")]
    Stored(#[from] DecodeError),
    /// The stream could not be read; a retry may help.
    #[error("{subject} could not be read: {reason}")]
    Read {
        /// The requested subject.
        subject: String,
        /// The error of NATS.
        reason: String,
    },
}

pub use crate::jetstream::publish_condition::PublishCondition;
pub use reads::{MAX_CALLS_PER_READ, StoredFact, StoredOfCall};

/// Access of a service to the stream of facts.
#[derive(Debug, Clone)]
pub struct FactStore {
    stream: Arc<dyn FactStream>,
    clock: Arc<dyn Clock>,
    source: Source,
    /// When the fact that is published was observed.
    observed: Option<Instant>,
}

impl FactStore {
    /// `source` is the CloudEvents source of this process's facts.
    pub fn new(nats: &Nats, storage: &Storage, source: Source) -> Self {
        let stream = JetStreamFactStream {
            jetstream: nats.jetstream.clone(),
            calls: storage.calls.clone(),
            batches: BatchSender::new(nats.client.clone()),
            reader: DirectReader::new(nats.client.clone(), API_PREFIX, CALLS),
        };
        Self::with_port(Arc::new(stream), Arc::new(SystemClock), source)
    }

    /// Uses another implementation of stream and clock, such as simulated ones.
    pub fn with_port(stream: Arc<dyn FactStream>, clock: Arc<dyn Clock>, source: Source) -> Self {
        Self {
            stream,
            clock,
            source,
            observed: None,
        }
    }

    /// For one fact that was observed at this moment of the monotonic clock: a step of the wall clock since then does not change its
    /// age, from which readers tell the server's time of the fact.
    #[must_use]
    pub fn observed(&self, at: Instant) -> Self {
        Self {
            observed: Some(at),
            ..self.clone()
        }
    }

    /// How old a fact is now, in milliseconds; `None` if its times may be of the clock of another machine.
    fn age_ms(&self, fact: &Fact) -> Option<i64> {
        if let Some(at) = self.observed {
            let age = self.clock.instant().saturating_duration_since(at);
            return Some(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        }
        let is_own_clock = match fact {
            Fact::Tick(_) | Fact::Settled(_) => false,
            Fact::Ended(ended) => ended.connected_at.is_none(),
            _ => true,
        };
        is_own_clock.then(|| self.clock.now().as_millis() - fact.occurred_at().as_millis())
    }

    /// Stores a fact under a condition, and retries with growing delays until the server acknowledges or rejects it.
    ///
    /// It waits without limit for an unreachable server. Callers that must not wait race it against a deadline; they can drop it at
    /// any point, because another attempt of the same fact is recognised. `trace` is the parent of the publication's span.
    ///
    /// # Errors
    /// [`FactError`] if a retry cannot help.
    pub async fn publish(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        trace: TraceParent,
    ) -> Result<Outcome, FactError> {
        let is_own = |stored: &StoredFact, _| stored.fact == *fact;
        self.store(fact, condition, trace, is_own).await
    }

    /// Like [`FactStore::publish`], but an identical fact from another publisher counts as superseding: the publication's own span
    /// identifies ours. The condition must name a sequence.
    ///
    /// # Errors
    /// See [`FactStore::publish`].
    pub async fn publish_as_first(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        trace: TraceParent,
    ) -> Result<Outcome, FactError> {
        let is_own = |stored: &StoredFact, own| stored.fact == *fact && stored.trace == own;
        self.store(fact, condition, trace, is_own).await
    }

    async fn store(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        parent: TraceParent,
        is_own: impl Fn(&StoredFact, TraceParent) -> bool,
    ) -> Result<Outcome, FactError> {
        let span = call_span!(
            "publish",
            "producer",
            otel.name = %format_args!("publish {}", fact.kind()),
            callpulse.call_id = %fact.call_id(),
        );
        let trace = spans::child_of(&span, parent);
        let is_own = |stored: &StoredFact| is_own(stored, trace);
        let storing = async {
            let subject = fact.subject();
            let mut delay = RETRY_DELAY_MIN;
            loop {
                match self.attempt(fact, condition, trace, &is_own).await? {
                    Ok(outcome) => return Ok(outcome),
                    Err(reason) => tracing::warn!(%subject, reason, "fact not stored yet: retrying"),
                }
                self.clock.sleep(self.clock.jittered(delay)).await;
                delay = (delay * 2).min(RETRY_DELAY_MAX);
            }
        };
        storing.instrument(span).await
    }

    /// One attempt: its outcome, or the reason for another attempt.
    async fn attempt(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        trace: TraceParent,
        is_own: impl Fn(&StoredFact) -> bool,
    ) -> Result<Result<Outcome, String>, FactError> {
        let expected = match condition.expected() {
            Some(expected) => expected,
            None => match self.check_condition(fact, condition, &is_own).await {
                Ok(Ok(sequence)) => ExpectedSequence::LastOfCall(sequence),
                Ok(Err(outcome)) => return Ok(Ok(outcome)),
                Err(FactError::Read { reason, .. }) => return Ok(Err(reason)),
                Err(error) => return Err(error),
            },
        };
        let mut publication = self.publication(fact, Some(expected), trace)?;
        if condition == PublishCondition::WhileOpen {
            publication.headers.insert(header::NATS_MESSAGE_ID, fact.event_id());
        }
        match self.stream.publish(publication).await {
            Ok(ack) if ack.duplicate => Ok(Ok(Outcome::AlreadyStored(ack.sequence))),
            Ok(ack) => Ok(Ok(Outcome::Stored(ack.sequence))),
            Err(NotAcknowledged::WrongLastSequence) if condition.expected().is_none() => {
                Ok(Err("the call has changed meanwhile".to_owned()))
            }
            Err(NotAcknowledged::WrongLastSequence) => match self.refused(fact, is_own).await {
                Err(FactError::Read { reason, .. }) => Ok(Err(format!("refused, and not read back: {reason}"))),
                // The fact that precludes a first fact can be read, unless an earlier attempt is still in flight in the cluster,
                // or a deposed leader replied.
                Ok(Outcome::ConditionFailed) if condition == PublishCondition::First => {
                    Ok(Err("refused, although no such fact is stored".to_owned()))
                }
                outcome => outcome.map(Ok),
            },
            Err(NotAcknowledged::Unacceptable(reason)) => Err(FactError::Rejected {
                subject: fact.subject(),
                reason,
            }),
            Err(NotAcknowledged::Unanswered(error)) => Ok(Err(error)),
        }
    }

    /// The sequence of the call's last fact if the condition holds there, otherwise the outcome of the publication.
    async fn check_condition(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        is_own: impl Fn(&StoredFact) -> bool,
    ) -> Result<Result<u64, Outcome>, FactError> {
        let call = fact.call_id();
        let Some(last) = self.last_message(subject::facts_of(call)).await? else {
            return Ok(Ok(0));
        };
        let kind = subject::parse_fact(&last.subject).map(|(_, kind)| kind);
        // No other fact precedes a connection or an end.
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
            // An end without a connection would contradict the stored connection.
            Fact::Ended(ended) if ended.connected_at.is_none() && is_there(FactKind::RtpDetected).await? => {
                Ok(Err(Outcome::ConditionFailed))
            }
            Fact::Ended(_) => Ok(Ok(last.sequence)),
            _ if condition == PublishCondition::OnceWhileOpen && is_there(fact.kind()).await? => {
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
        let mut previous = None;
        for entry in entries {
            let call = entry.fact.call_id();
            let follows = entry.condition == PublishCondition::AfterPreviousEntry && previous == Some(call);
            let expected = entry.condition.expected();
            if expected.is_none() && !follows {
                return Err(BatchError::NoSequence(entry.fact.subject()));
            }
            publications.push(self.publication(&entry.fact, expected, entry.trace)?);
            previous = Some(call);
        }
        self.stream.publish_batch(publications).await
    }

    /// The message of a fact.
    fn publication(
        &self,
        fact: &Fact,
        expected: Option<ExpectedSequence>,
        trace: TraceParent,
    ) -> serde_json::Result<Publication> {
        let mut headers = envelope::headers(fact, &self.source, trace);
        headers.insert(header::NATS_EXPECTED_STREAM, CALLS);
        if let Some(age_ms) = self.age_ms(fact) {
            envelope::set_age(&mut headers, age_ms);
        }
        if let Some(ExpectedSequence::LastOfCall(_)) = expected {
            headers.insert(EXPECTED_SUBJECT, subject::facts_of(fact.call_id()));
        }
        let sequence = expected.map(|expected| match expected {
            ExpectedSequence::NoneOfItsKind => 0,
            ExpectedSequence::LastOfCall(sequence) => sequence,
        });
        if let Some(sequence) = sequence {
            headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
        }
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
            None => Outcome::ConditionFailed,
        })
    }
}

#[cfg(test)]
mod tests;
