//! Shutdown on SIGTERM or SIGINT, and a drain with a deadline.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{exit, logging};

/// Cancels `stop` on the first SIGTERM or SIGINT. The second ends the process at once, with [`exit::FAILURE`].
///
/// SIGHUP, SIGUSR1 and SIGUSR2 are logged and ignored. Their default would end the process without a drain.
///
/// # Errors
/// The handlers could not be installed.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for (kind, name) in [
        (SignalKind::hangup(), "SIGHUP"),
        (SignalKind::user_defined1(), "SIGUSR1"),
        (SignalKind::user_defined2(), "SIGUSR2"),
    ] {
        let mut ignored = signal(kind)?;
        tokio::spawn(async move {
            while ignored.recv().await.is_some() {
                tracing::warn!(
                    signal = name,
                    "ignored: settings are read at the start; stop with SIGTERM"
                );
            }
        });
    }
    // The log may reach the limit of the size of a file (`ulimit -f`). With a handler, the write fails and the line is counted as lost.
    drop(signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?);
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping; a second signal ends the process at once");
        stop.cancel();
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "second signal: ending without draining");
        logging::flush();
        std::process::exit(i32::from(exit::FAILURE));
    });
    Ok(())
}

/// The deadline for all work between the request to stop and the end of the process. Clones share it.
#[derive(Debug, Clone)]
pub struct Drain {
    timeout: Duration,
    deadline: Arc<OnceLock<Instant>>,
}

impl Drain {
    /// A drain with this timeout, which starts with the first call of [`Drain::deadline`].
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Arc::default(),
        }
    }

    /// The deadline. The first call starts the timeout.
    pub fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + self.timeout)
    }

    /// Waits for `future` until the deadline.
    pub async fn run<F: Future>(&self, what: &str, future: F) -> Option<F::Output> {
        drain(self.deadline(), what, future).await
    }
}

/// Waits for `future` until `deadline`. If it overruns, logs a warning and returns `None`.
pub async fn drain<F: Future>(deadline: Instant, what: &str, future: F) -> Option<F::Output> {
    let drained = timeout_at(deadline, future).await.ok();
    if drained.is_none() {
        metrics::counter!("callpulse_drain_overruns_total").increment(1);
        tracing::warn!(
            what,
            "not drained by the deadline; abandoned. If this repeats, raise drain_timeout_ms"
        );
    }
    drained
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_returns_the_output_and_gives_up_at_the_deadline() {
        let drain = Drain::new(Duration::from_millis(50));
        assert_eq!(drain.run("quick", async { 7 }).await, Some(7));
        assert_eq!(drain.run("stuck", std::future::pending::<()>()).await, None);
        assert!(Instant::now() >= drain.deadline());
    }
}
