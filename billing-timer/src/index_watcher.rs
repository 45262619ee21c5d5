//! Watches the bucket `billing_active` and forwards its entries and changes to the ticker.

use std::pin::pin;
use std::time::Instant;

use contract::CallId;
use contract::buckets::billing_active::{BillingChange, BillingEntry};
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::storage::MARKER_TTL;
use futures::StreamExt;
use service::{BoxError, Condition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::deps::Deps;
use crate::{metrics, nats_state};

/// Changes that may wait for the ticker.
pub(crate) const INDEX_CHANGE_CAPACITY: usize = 1_024;

/// A change of the local copy of the bucket.
#[derive(Debug)]
pub(crate) enum IndexChange {
    /// Earlier changes may be out of date. Drop all entries; the current ones follow.
    Reset,
    /// An entry exists with this content.
    Put(CallId, Revised<BillingEntry>),
    /// An entry was removed.
    Removed(CallId),
}

/// Watches the bucket.
#[derive(Debug)]
pub(crate) struct IndexWatcher {
    pub(crate) deps: Deps,
    /// Holds while the watch is open.
    pub(crate) watching: Condition,
    pub(crate) changes: mpsc::Sender<IndexChange>,
}

impl IndexWatcher {
    /// Watches until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        let mut lost_at = None;
        while let Some(outcome) = stop.run_until_cancelled(self.watch(&mut backoff, lost_at)).await {
            if self.watching.holds() {
                lost_at = Some(self.deps.clock.instant());
            }
            self.watching.set(false);
            let Some(reason) = outcome else { break };
            metrics::lost("billing_active");
            tracing::warn!(reason, "watch of billing_active lost: reopening");
            if stop
                .run_until_cancelled(backoff.pause(&*self.deps.clock))
                .await
                .is_none()
            {
                break;
            }
        }
        Ok(())
    }

    /// Returns the reason the watch was lost, or none if the ticker has ended.
    async fn watch(&self, backoff: &mut Backoff, lost_at: Option<Instant>) -> Option<String> {
        let mut reconnected = pin!(nats_state::until_reconnect(&self.deps.nats_state).await);
        let changes = match self.deps.active_billing.watch().await {
            Ok(changes) => changes,
            Err(error) => return Some(error.to_string()),
        };
        let mut changes = pin!(changes);
        backoff.reset();
        // A new watch repeats all entries and the markers of removed ones. Markers expire, so after a long interruption a
        // removal would go unnoticed.
        let now = self.deps.clock.instant();
        if lost_at.is_none_or(|lost_at| now.duration_since(lost_at) > MARKER_TTL / 2) {
            self.changes.send(IndexChange::Reset).await.ok()?;
        }
        self.watching.set(true);
        loop {
            let change = tokio::select! {
                biased;
                () = &mut reconnected => return Some("NATS was reconnected".to_owned()),
                change = changes.next() => change,
            };
            let change = match change {
                Some(Ok(BillingChange::Open(entry))) => IndexChange::Put(entry.value.parties.call_id.clone(), entry),
                Some(Ok(BillingChange::Closed(call))) => IndexChange::Removed(call),
                Some(Err(error @ BucketError::Unreadable { .. })) => {
                    metrics::call_stuck("unreadable_entry");
                    tracing::error!(%error, "entry of billing_active not decoded, its call is not billed: check its writer's version");
                    continue;
                }
                Some(Err(error)) => return Some(error.to_string()),
                None => return Some("the stream of changes ended".to_owned()),
            };
            self.changes.send(change).await.ok()?;
        }
    }
}
