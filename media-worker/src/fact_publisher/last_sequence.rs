//! The sequence of a call's last fact, known before the next fact is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use contract::jetstream::fact_store::StoredOfCall;
use contract::{CallId, Fact, FactStore};

/// Known after the call's acceptance was read, and while this worker alone stores facts that occur once. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LastSequence(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// 0: not known.
    sequence: AtomicU64,
    is_looked_up: AtomicBool,
}

impl LastSequence {
    /// Reads it in the background if the call's last fact is its acceptance. Only the first call does anything.
    pub(super) fn look_up(&self, facts: &FactStore, call_id: &CallId) {
        if self.0.is_looked_up.swap(true, Ordering::Relaxed) {
            return;
        }
        let (last, facts, call_id) = (self.clone(), facts.clone(), call_id.clone());
        tokio::spawn(async move {
            match facts.last_of_call(&call_id).await {
                Ok(Some(StoredOfCall {
                    fact: Some(Fact::Accepted(_)),
                    sequence,
                    ..
                })) => last.set(sequence),
                Ok(_) => {}
                Err(error) => tracing::debug!(%call_id, %error, "last fact of the call not read ahead"),
            }
        });
    }

    pub(super) fn set(&self, sequence: u64) {
        self.0.sequence.store(sequence, Ordering::Relaxed);
    }

    /// It holds for one publication.
    pub(super) fn take(&self) -> Option<u64> {
        let sequence = self.0.sequence.swap(0, Ordering::Relaxed);
        (sequence > 0).then_some(sequence)
    }
}
