//! Atomic batches: many facts stored by one flush, all or none, each under its own guard.
//!
//! Source: NATS ADR-50 (nats-server 2.12); how it is said to the server: [`crate::jetstream::fact_stream`].

use thiserror::Error;

use crate::jetstream::fact_store::{FactError, FactStore, PublishCondition};
use crate::wire::envelope::TraceParent;
use crate::wire::fact::Fact;

/// The most facts in one batch (a limit of the server).
pub const MAX_BATCH: usize = 1000;

/// One fact of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is stored. No two entries of a batch may have the same subject.
    pub fact: Fact,
    /// Under which guard.
    pub guard: PublishCondition,
    /// The call's trace.
    pub trace: TraceParent,
}

/// Why none of a batch is known to be stored.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Empty, or more than [`MAX_BATCH`]: the caller's mistake.
    #[error("a batch has 1 to {MAX_BATCH} facts, not {0}")]
    Size(usize),
    /// An entry without an expected sequence: the caller's mistake. A stored message ID would refuse the whole batch (10201).
    #[error("{0} has no guard that a batch can carry")]
    Unguarded(String),
    /// A guard does not hold, or the server refuses otherwise: nothing is stored. Read back, trim, send again.
    #[error("the batch was refused: {0}")]
    Refused(String),
    /// No answer: all or nothing is stored, and reading back tells which.
    #[error("the batch was not acknowledged: {0}")]
    Unacknowledged(String),
    /// A fact cannot be encoded.
    #[error(transparent)]
    Fact(#[from] FactError),
}

impl FactStore {
    /// Stores all entries or none, and gives the sequence of each. One attempt: what to do about a refusal is the caller's.
    ///
    /// # Errors
    /// [`BatchError`]
    pub async fn publish_batch(&self, entries: &[Entry]) -> Result<Vec<u64>, BatchError> {
        if entries.is_empty() || entries.len() > MAX_BATCH {
            return Err(BatchError::Size(entries.len()));
        }
        let mut publications = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(expected) = entry.guard.expected() else {
                return Err(BatchError::Unguarded(entry.fact.subject()));
            };
            publications.push(self.publication(&entry.fact, expected, entry.trace)?);
        }
        self.log().publish_batch(publications).await
    }
}
