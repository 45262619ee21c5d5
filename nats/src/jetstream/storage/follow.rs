//! Checks the streams and buckets while a service runs.

use std::time::Duration;

use tokio::sync::watch;

use super::{CALLS, Storage, StorageError};
use crate::jetstream::connection::Nats;

/// How often the streams and buckets are checked while the connection lasts.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Wait after a failed check.
const CHECK_RETRY: Duration = Duration::from_secs(1);

impl Storage {
    /// Checks after every reconnect, and at intervals, that all streams and buckets are there, and creates those that are missing:
    /// NATS may come back with an empty store. `report` receives whether they are known to be there.
    ///
    /// # Errors
    /// When the client has been dropped, which cannot happen before `nats` is.
    pub async fn follow(self, nats: Nats, report: impl Fn(bool)) -> Result<(), watch::error::RecvError> {
        let mut created = self.calls.cached_info().created;
        let mut state = nats.state();
        let mut failed = false;
        loop {
            let connections = state.wait_for(|state| state.connected).await?.connections;
            let outcome = Box::pin(Self::open(&nats)).await;
            report(outcome.is_ok());
            match &outcome {
                Ok(storage) => {
                    let found = storage.calls.cached_info().created;
                    if found != created {
                        tracing::error!(
                            stream = CALLS,
                            created = %found,
                            "the stream is a new one: facts stored before are lost; restore the store of NATS from a backup"
                        );
                        created = found;
                    }
                }
                Err(_) if failed => {}
                Err(error @ StorageError::Unavailable { .. }) => {
                    tracing::warn!(%error, "JetStream is not available: retrying");
                }
                Err(error) => tracing::error!(%error, "the storage of NATS does not fit: not ready until it does"),
            }
            failed = outcome.is_err();
            let pause = if failed { CHECK_RETRY } else { CHECK_INTERVAL };
            let interrupted = state.wait_for(|state| !state.connected || state.connections != connections);
            if let Ok(closed) = tokio::time::timeout(pause, interrupted).await {
                closed?;
                report(false);
            }
        }
    }
}
