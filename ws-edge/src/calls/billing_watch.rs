//! Whether a billing-timer lives and can store: without one, the minutes of a new call may never be stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Nats;
use contract::buckets::billing_leases;
use parking_lot::Mutex;
use service::BoxError;
use tokio_util::sync::CancellationToken;

use crate::protocol::{Code, Problem};

/// Between two reads of the heartbeats.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// When a heartbeat of a billing-timer was last stored, as seen by this node. Clones share it.
#[derive(Debug, Clone)]
pub struct BillingWatch {
    timeout: Option<Duration>,
    seen: Arc<Mutex<Instant>>,
}

impl BillingWatch {
    /// Calls are accepted until `timeout` after the last new heartbeat; without a timeout, always.
    pub fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            seen: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Refuses a call that cannot be billed, as far as this node knows.
    ///
    /// # Errors
    /// [`Code::NoCapacity`]
    pub fn check(&self) -> Result<(), Problem> {
        let refusal = || {
            Problem::new(
                Code::NoCapacity,
                "calls cannot be billed at the moment: try again later",
            )
        };
        self.can_bill().then_some(()).ok_or_else(refusal)
    }

    fn can_bill(&self) -> bool {
        self.timeout.is_none_or(|timeout| self.seen.lock().elapsed() < timeout)
    }

    /// Polls until `stop`.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, nats: Nats, stop: CancellationToken) -> Result<(), BoxError> {
        let looking = async {
            let (mut latest, mut could) = (None, true);
            loop {
                nats.connected().await;
                match billing_leases::latest_heartbeat(&nats).await {
                    Ok(found) if found.is_some() && found != latest => {
                        latest = found;
                        *self.seen.lock() = Instant::now();
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "heartbeats of billing-timers not read"),
                }
                let can = self.can_bill();
                match (could, can) {
                    (true, false) => tracing::warn!(
                        "no heartbeat of a billing-timer that can bill within billing_timeout_ms: refusing calls; check the billing-timers, and the disk and limits of NATS"
                    ),
                    (false, true) => tracing::info!("a billing-timer is back: accepting calls"),
                    _ => {}
                }
                could = can;
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(looking).await;
        Ok(())
    }
}
