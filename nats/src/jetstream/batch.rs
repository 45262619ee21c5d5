//! Atomic batches: many facts stored by one commit, all or none, each under its own condition.
//!
//! Source: NATS ADR-50 (nats-server 2.12). [`FactStore::publish_batch`](crate::FactStore::publish_batch) sends them.

use async_nats::HeaderMap;
use bytes::Bytes;
use thiserror::Error;

use crate::jetstream::publish_condition::PublishCondition;
use crate::wire::envelope::TraceParent;
use crate::wire::fact::Fact;

/// The most facts in one batch (a limit of the server).
pub const MAX_BATCH: usize = 1000;

/// One fact of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The fact to be stored.
    pub fact: Fact,
    /// Its condition. If several entries are of one call, they stand together, and all but the first have
    /// [`PublishCondition::AfterPreviousEntry`]: the server compares a condition with what is stored before the batch.
    pub condition: PublishCondition,
    /// The context of the span that publishes it.
    pub trace: TraceParent,
}

/// A message to be stored, with its condition among the headers.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The subject.
    pub subject: String,
    /// Its envelope and its condition.
    pub headers: HeaderMap,
    /// Its content.
    pub payload: Bytes,
}

/// Why a batch is not known to be stored.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Empty, or more than [`MAX_BATCH`]: a bug of the caller.
    #[error("a batch has 1 to {MAX_BATCH} facts, not {0}")]
    Size(usize),
    /// The condition of an entry names no sequence, or the entry does not follow one of its call: a bug of the caller. A stored
    /// message ID would fail the whole batch (10201).
    #[error("the condition of {0} names no sequence")]
    NoSequence(String),
    /// A condition failed, or the server rejected the batch for another reason: nothing is stored. Read back, trim, send again.
    #[error("the batch was refused: {0}")]
    Rejected(String),
    /// No reply: all or nothing is stored. Read back to find out.
    #[error("the batch was not acknowledged: {0}")]
    Unacknowledged(String),
    /// A fact cannot be encoded.
    #[error("the fact cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}
