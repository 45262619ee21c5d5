//! Shutdown on a signal, and a drain with a deadline.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{exit, logging};

/// A person, or a supervisor, asks the process to end.
const REQUESTS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
/// The machine is about to end the process: a power failure, or the limit of processor time (`ulimit -t`), which the kernel repeats
/// every second.
const ANNOUNCEMENTS: [Signal; 2] = [Signal::SIGPWR, Signal::SIGXCPU];
/// Their default would end the process without a drain, or suspend it with its calls (SIGTSTP: Ctrl-Z).
const IGNORED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGSTKFLT,
    Signal::SIGTSTP,
];

/// Cancels `stop` on the first signal that asks the process to end, or announces its end. A second request ends the process at once,
/// with [`exit::FAILURE`].
///
/// Other signals whose default would end or suspend the process are logged and ignored: all but SIGKILL, SIGSTOP and those of faults,
/// such as SIGSEGV.
///
/// # Errors
/// The handlers could not be installed.
pub fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    let (requests, mut requested) = mpsc::channel(2);
    for signal in REQUESTS {
        let requests = requests.clone();
        on(signal as i32, move || requests.try_send(signal.as_str()).is_ok())?;
    }
    for signal in ANNOUNCEMENTS {
        let stop = stop.clone();
        on(signal as i32, move || {
            tracing::warn!(signal = signal.as_str(), "stopping");
            stop.cancel();
            false
        })?;
    }
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for number in IGNORED.map(|signal| signal as i32).into_iter().chain(real_time) {
        on(number, move || {
            let signal = Signal::try_from(number).map_or("SIGRT", Signal::as_str);
            tracing::warn!(signal, "ignored: settings are read at the start; stop with SIGTERM");
            true
        })?;
    }
    // The log may reach the limit of the size of a file (`ulimit -f`). With a handler, the write fails and the line is counted as lost.
    drop(signal(SignalKind::from_raw(Signal::SIGXFSZ as i32))?);
    tokio::spawn(async move {
        let Some(signal) = requested.recv().await else { return };
        tracing::info!(signal, "stopping: a second signal ends the process at once");
        stop.cancel();
        let Some(signal) = requested.recv().await else { return };
        tracing::warn!(signal, "second signal: ending without draining");
        logging::flush();
        std::process::exit(i32::from(exit::FAILURE));
    });
    Ok(())
}

/// Calls `handle` for each signal of this number until it returns false.
fn on(number: i32, handle: impl Fn() -> bool + Send + 'static) -> io::Result<()> {
    let mut signals = signal(SignalKind::from_raw(number))?;
    tokio::spawn(async move { while signals.recv().await.is_some() && handle() {} });
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
            "not drained by the deadline, abandoned: if this repeats, raise drain_timeout_ms"
        );
    }
    drained
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
