//! Replaces mediasoup workers that die.

use std::sync::Arc;
use std::time::Duration;

use contract::{EndReason, Timestamp};
use futures::StreamExt;
use service::{BoxError, Condition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls, Fate};
use crate::meters;
use crate::sfu::{Death, Sfu};

/// After so many failures the process gives up: its supervisor starts another.
const ATTEMPTS: u32 = 8;
/// The first wait between two attempts; each further one is twice as long.
const DELAY: Duration = Duration::from_millis(100);
/// Calls that are ended side by side.
const SIDE_BY_SIDE: usize = 32;

/// Ends a dead worker's calls and starts another in its place, until `over`.
///
/// # Errors
/// No other could be started.
pub async fn run(
    sfu: Arc<Sfu>,
    calls: Arc<Calls>,
    mut deaths: mpsc::Receiver<Death>,
    whole: Condition,
    over: CancellationToken,
) -> Result<(), BoxError> {
    meters::sfu_workers(sfu.alive());
    while let Some(Some(death)) = over.run_until_cancelled(deaths.recv()).await {
        whole.set(false);
        meters::sfu_death();
        sfu.bury(&death);
        meters::sfu_workers(sfu.alive());
        tracing::error!(
            host = death.host,
            reason = death.reason,
            "a mediasoup worker died, and its calls with it"
        );
        futures::stream::iter(calls.on_host(death.host))
            .for_each_concurrent(SIDE_BY_SIDE, |call| async move {
                let ended_at = call.last_rtp().unwrap_or_else(Timestamp::now);
                let ending = call.ending(Fate {
                    reason: EndReason::WorkerLost,
                    ended_at,
                });
                calls::end(&call, Some(ending)).await;
            })
            .await;
        revive(&sfu, death.slot).await?;
        meters::sfu_workers(sfu.alive());
        whole.set(sfu.is_whole());
    }
    Ok(())
}

async fn revive(sfu: &Sfu, slot: u16) -> Result<(), BoxError> {
    let mut attempt = 0;
    loop {
        match sfu.revive(slot).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt + 1 < ATTEMPTS => tracing::warn!(%error, attempt, "trying again"),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(DELAY * 2_u32.saturating_pow(attempt)).await;
        attempt += 1;
    }
}
