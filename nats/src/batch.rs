//! Atomic batches: many facts stored by one flush, all or none, each under its own guard.
//!
//! Source: NATS ADR-50 (nats-server 2.12). The entries of a batch are contiguous in the stream, so the acknowledgement of
//! the last one gives the sequences of all.

use async_nats::jetstream::response::Response;
use serde::Deserialize;
use thiserror::Error;

use crate::event::TraceParent;
use crate::fact::Fact;
use crate::facts::{FactError, FactStore, Guard};

/// The most facts in one batch (a limit of the server).
pub const MAX_BATCH: usize = 1000;

const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// One fact of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is stored. No two entries of a batch may have the same subject.
    pub fact: Fact,
    /// Under which guard.
    pub guard: Guard,
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

#[derive(Deserialize)]
struct Acknowledgement {
    seq: u64,
    #[serde(default)]
    count: Option<usize>,
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
        let id = uuid::Uuid::now_v7().simple().to_string();
        let client = self.client();
        let unacknowledged = |error: &dyn std::fmt::Display| BatchError::Unacknowledged(error.to_string());
        let mut answer = None;
        for (number, entry) in (1..).zip(entries) {
            if entry.guard == Guard::Repeatable {
                return Err(BatchError::Unguarded(entry.fact.subject()));
            }
            let mut message = self
                .message(&entry.fact, entry.guard, entry.trace)?
                .outbound_message(entry.fact.subject());
            let mut headers = message.headers.take().unwrap_or_default();
            headers.insert(BATCH_ID, id.as_str());
            headers.insert(BATCH_SEQUENCE, number.to_string());
            if number < entries.len() {
                let sent = client
                    .publish_with_headers(message.subject, headers, message.payload)
                    .await;
                sent.map_err(|error| unacknowledged(&error))?;
            } else {
                // The server answers once, at the commit: also if it threw the batch away at an earlier entry.
                headers.insert(BATCH_COMMIT, "1");
                let commit = async_nats::Request::new().headers(headers).payload(message.payload);
                let sent = client.send_request(message.subject, commit).await;
                answer = Some(sent.map_err(|error| unacknowledged(&error))?);
            }
        }
        let answer = answer.ok_or(BatchError::Size(0))?;
        match serde_json::from_slice::<Response<Acknowledgement>>(&answer.payload) {
            Ok(Response::Ok(ack)) if ack.count.unwrap_or(1) == entries.len() => {
                let first = ack.seq.saturating_sub(entries.len() as u64 - 1);
                Ok((first..=ack.seq).collect())
            }
            Ok(Response::Ok(ack)) => Err(BatchError::Unacknowledged(format!(
                "{} of {} entries are acknowledged",
                ack.count.unwrap_or(1),
                entries.len()
            ))),
            Ok(Response::Err { error }) => Err(BatchError::Refused(error.to_string())),
            Err(error) => Err(unacknowledged(&error)),
        }
    }
}
