//! Atomic batches: many facts stored by one commit, all or none, each under its own condition.
//!
//! Source: NATS ADR-50 (nats-server 2.12). [`FactStore::publish_batch`](crate::FactStore::publish_batch) sends them.

use thiserror::Error;

use crate::jetstream::publish_condition::PublishCondition;
use crate::wire::envelope::TraceParent;
use crate::wire::fact::Fact;

/// The most facts in one batch (a limit of the server).
pub const MAX_BATCH: usize = 1000;

/// One fact of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The fact to be stored. No two entries of a batch may have the same subject.
    pub fact: Fact,
    /// Its condition.
    pub condition: PublishCondition,
    /// The call's trace.
    pub trace: TraceParent,
}

/// Why none of a batch is known to be stored.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Empty, or more than [`MAX_BATCH`]: the caller's mistake.
    #[error("a batch has 1 to {MAX_BATCH} facts, not {0}")]
    Size(usize),
    /// An entry whose condition names no sequence: the caller's mistake. A stored message ID would fail the whole batch
    /// (10201).
    #[error("the condition of {0} names no sequence")]
    NoSequence(String),
    /// A condition does not hold, or the server rejects the batch otherwise: nothing is stored. Read back, trim, send again.
    #[error("the batch was refused: {0}")]
    Refused(String),
    /// No answer: all or nothing is stored. Read back to find out.
    #[error("the batch was not acknowledged: {0}")]
    Unacknowledged(String),
    /// A fact cannot be encoded.
    #[error("the fact cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}
