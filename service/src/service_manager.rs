//! Tells systemd, or another service manager with its protocol, that the service is ready, alive and stopping.
//!
//! Source: sd_notify(3), `Type=notify` and `WatchdogSec=` of systemd.service(5). Without `NOTIFY_SOCKET` nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Interval at which readiness is looked up until the service is ready.
const READY_INTERVAL: Duration = Duration::from_millis(100);
/// Heartbeats within one watchdog timeout, so that a late one does not end the service.
const BEATS_PER_TIMEOUT: u32 = 3;

/// Longest wait for the last message when the service ends.
const LAST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The notifications of a service. Those of its watchdog end with the runtime: a service that drains is still watched.
pub(crate) struct ServiceManager(Option<JoinHandle<()>>);

/// Starts the notifications.
pub(crate) fn start(health: Health, stop: CancellationToken) -> ServiceManager {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return ServiceManager(None);
    }
    let conditions = tokio::spawn(async move {
        stop.run_until_cancelled(report_ready(health)).await;
        stop.cancelled().await;
        notify("STOPPING=1\nSTATUS=finishing its work".to_owned()).await;
    });
    if let Some(timeout) = sd_notify::watchdog_enabled() {
        tokio::spawn(beat((timeout / BEATS_PER_TIMEOUT).max(Duration::from_millis(1))));
    }
    ServiceManager(Some(conditions))
}

impl ServiceManager {
    /// Waits until the stop is reported; it must be requested.
    pub(crate) async fn stopped(self) {
        if let Some(conditions) = self.0 {
            let _ = timeout(LAST_MESSAGE_TIMEOUT, conditions).await;
        }
    }
}

async fn report_ready(health: Health) {
    let mut reported = Vec::new();
    while !health.is_ready() {
        let missing = health.missing();
        if missing != reported {
            notify(format!("STATUS=waiting for {}", missing.join(", "))).await;
            reported = missing;
        }
        sleep(READY_INTERVAL).await;
    }
    notify("READY=1\nSTATUS=ready; see /readyz for its conditions".to_owned()).await;
}

/// Each heartbeat needs the timer and the scheduler of the runtime, and a thread for what blocks.
async fn beat(every: Duration) {
    let mut beats = interval(every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        notify("WATCHDOG=1".to_owned()).await;
    }
}

/// Blocks a thread of its own, should the service manager not read.
async fn notify(state: String) {
    let sent = tokio::task::spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&state)])).await;
    if let Ok(Err(error)) = sent {
        tracing::debug!(%error, "service manager not notified");
    }
}
