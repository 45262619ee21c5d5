//! What the tests share: a stack on a cluster, not too many at a time, and waiting for what is stored.

use std::time::Duration;

use anyhow::{Result, ensure};
use callpulse_tests::eventually::eventually;
use callpulse_tests::process::Service;
use callpulse_tests::stack::StackBuilder;
use tokio::sync::{Semaphore, SemaphorePermit};

/// For what needs an election on the way: that takes four to nine seconds, and twice that when votes are split.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// A minute.
pub(crate) const INTERVAL_MS: i64 = 500;

/// Each is three servers that write to the disk and half a dozen processes.
const MOST_AT_ONCE: usize = 2;
static CLUSTERS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// Waits for its turn. Keep the permit for as long as the stack.
pub(crate) async fn turn() -> Result<SemaphorePermit<'static>> {
    Ok(CLUSTERS.acquire().await?)
}

/// Two of each service, on three servers.
pub(crate) fn two_of_each() -> StackBuilder {
    StackBuilder::default().cluster().workers(2).edges(2).timers(2).set(
        "billing-timer",
        "tick_interval_ms",
        INTERVAL_MS,
    )
}

/// Waits until a process says that it is not ready.
pub(crate) async fn unready(service: &Service) -> Result<()> {
    eventually(
        &format!("{} not being ready", service.child().name()),
        SOON,
        async || {
            let (status, body) = service.ops("/readyz").await?;
            ensure!(status == 503, "/readyz answers {status}: {body}");
            Ok(())
        },
    )
    .await
}
