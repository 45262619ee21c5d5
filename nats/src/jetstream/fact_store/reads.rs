//! Reading facts back: the last of a kind or of a call from the leader, pages of them from any replica.

use super::{FactError, FactStore, RETRY_DELAY_MIN};
use crate::jetstream::direct_reader;
use crate::jetstream::fact_stream::{LeaderTime, StoredMessage};
use crate::metrics;
use crate::wire::envelope::{self, TraceParent};
use crate::wire::fact::{Fact, FactKind};
use crate::wire::fact_codec::DecodeError;
use crate::wire::id::CallId;
use crate::wire::subject;
use crate::wire::time::Timestamp;
use crate::wire::unknown::Unknown;

/// Attempts of a read before it fails.
pub(super) const READ_ATTEMPTS: u32 = 5;
/// Calls of one [`FactStore::last_of_each_kind`]: the server's limit of matched subjects leaves room for 16 kinds of facts.
pub const MAX_CALLS_PER_READ: usize = direct_reader::MAX_ANSWER / 16;

/// A stored fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFact {
    /// The fact.
    pub fact: Fact,
    /// When it happened by the server's clock, if its publisher sent its age.
    pub happened_at: Option<Timestamp>,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its trace.
    pub trace: TraceParent,
}

/// A stored message of a call, of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOfCall {
    /// The fact; `None` for a kind that this version does not know.
    pub fact: Option<Fact>,
    /// When it happened by the clock of its publisher: for an unknown kind the `ce-time` of its envelope, if it has one.
    pub occurred_at: Option<Timestamp>,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its trace.
    pub trace: TraceParent,
}

impl FactStore {
    /// The call's last fact of a kind, read from the stream's leader, which has every acknowledged fact.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply, [`FactError::Stored`] if the stored message is not a fact.
    pub async fn last(&self, call: &CallId, kind: FactKind) -> Result<Option<StoredFact>, FactError> {
        let last = self.last_message(subject::fact(call, kind)).await?;
        last.as_ref().map(stored).transpose()
    }

    /// Whether the call has a stored message of a kind, even one that cannot be decoded.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply.
    pub async fn has(&self, call: &CallId, kind: FactKind) -> Result<bool, FactError> {
        Ok(self.last_message(subject::fact(call, kind)).await?.is_some())
    }

    /// The call's last fact of any kind, known or not, see [`FactStore::last`].
    ///
    /// # Errors
    /// See [`FactStore::last`].
    pub async fn last_of_call(&self, call: &CallId) -> Result<Option<StoredOfCall>, FactError> {
        let last = self.last_message(subject::facts_of(call)).await?;
        last.as_ref().map(stored_of_call).transpose()
    }

    /// The last stored message of each kind of these calls, from any replica. The replica may lag, but the messages of a call are
    /// consistent with each other. At most [`MAX_CALLS_PER_READ`] calls.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply, or if too many messages match.
    pub async fn last_of_each_kind(&self, calls: &[CallId]) -> Result<Vec<StoredMessage>, FactError> {
        let filters = calls.iter().map(subject::facts_of).collect();
        let messages = self.stream.last_of_each(filters).await;
        messages.map_err(|reason| FactError::Read {
            subject: subject::ALL_FACTS.to_owned(),
            reason,
        })
    }

    /// The stored fact of one kind of each of these calls, from any replica, which may lag: calls without one are left out. At
    /// most [`MAX_BATCH`] calls.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply.
    pub async fn last_of_kind(&self, calls: &[CallId], kind: FactKind) -> Result<Vec<StoredMessage>, FactError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let filters = calls.iter().map(|call| subject::fact(call, kind)).collect();
        let messages = self.stream.last_of_each(filters).await;
        messages.map_err(|reason| FactError::Read {
            subject: subject::facts_of_kind(kind),
            reason,
        })
    }

    /// The sequence of the call's last message, decodable or not; 0 if it has none. For [`PublishCondition::CallUnchangedSince`].
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply.
    pub async fn sequence_of_call(&self, call: &CallId) -> Result<u64, FactError> {
        let last = self.last_message(subject::facts_of(call)).await?;
        Ok(last.map_or(0, |message| message.sequence))
    }

    pub(super) async fn last_message(&self, subject: String) -> Result<Option<StoredMessage>, FactError> {
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

    /// The first fact of a call at or after a sequence, of a known kind or not. Iterate with `sequence + 1` to read all of them
    /// in order.
    ///
    /// # Errors
    /// See [`FactStore::last`].
    pub async fn next_of_call(&self, call: &CallId, sequence: u64) -> Result<Option<StoredOfCall>, FactError> {
        let page = self.page(subject::facts_of(call), sequence, 1).await?;
        page.first().map(stored_of_call).transpose()
    }

    /// The facts of one kind of a call, in order, up to the one with the sequence `last`.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply, or if a replica that lags lacks some; [`FactError::Stored`] if one is not a fact.
    pub async fn all_of_kind(&self, call: &CallId, kind: FactKind, last: u64) -> Result<Vec<StoredFact>, FactError> {
        let (subject, mut all, mut read_to) = (subject::fact(call, kind), Vec::new(), 0);
        while read_to < last {
            let page = self
                .page(subject.clone(), read_to + 1, direct_reader::MAX_ANSWER)
                .await?;
            let Some(end) = page.last() else {
                let reason = format!("a replica lacks the message with sequence {last}");
                return Err(FactError::Read { subject, reason });
            };
            read_to = end.sequence;
            let wanted = page.iter().filter(|message| message.sequence <= last);
            all.extend(wanted.map(stored).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(all)
    }

    /// The time of the stream's leader, in a single attempt.
    ///
    /// # Errors
    /// [`FactError::Read`] if NATS does not reply.
    pub async fn leader_time(&self) -> Result<LeaderTime, FactError> {
        let time = self.stream.leader_time().await;
        time.map_err(|reason| FactError::Read {
            subject: subject::ALL_FACTS.to_owned(),
            reason,
        })
    }

    async fn page(&self, subject: String, from: u64, limit: usize) -> Result<Vec<StoredMessage>, FactError> {
        let page = self.stream.page(subject.clone(), from, limit).await;
        page.map_err(|reason| FactError::Read { subject, reason })
    }
}

fn stored_of_call(message: &StoredMessage) -> Result<StoredOfCall, FactError> {
    match stored(message) {
        Ok(stored) => Ok(StoredOfCall {
            occurred_at: Some(stored.fact.occurred_at()),
            stored_at: message.stored_at,
            fact: Some(stored.fact),
            sequence: stored.sequence,
            trace: stored.trace,
        }),
        Err(FactError::Stored(DecodeError::UnknownKind { .. })) => Ok(StoredOfCall {
            fact: None,
            occurred_at: envelope::time(&message.headers),
            stored_at: message.stored_at,
            sequence: message.sequence,
            trace: TraceParent::of(Some(&message.headers)),
        }),
        Err(error) => Err(error),
    }
}

fn stored(message: &StoredMessage) -> Result<StoredFact, FactError> {
    let fact = Fact::decode(&message.subject, &message.payload);
    metrics::unknown(Unknown::of(&fact, &message.payload));
    Ok(StoredFact {
        fact: fact?,
        happened_at: envelope::happened_at(Some(&message.headers), message.stored_at),
        sequence: message.sequence,
        trace: TraceParent::of(Some(&message.headers)),
    })
}
