//! The clients of a measurement, and the notices that they receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::let_time_pass;
use tokio::task::JoinHandle;

use crate::clients::{Clients, Identity};
use crate::notice_source::NoticeSource;
use crate::server_kind::Running;

/// Without another notice for this long, the rest is lost.
const SILENCE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The deadline for clients to be welcomed.
const WELCOMED_WITHIN: Duration = Duration::from_secs(90);

/// Clients with tokens.
pub fn identities(count: usize) -> Result<Vec<Identity>> {
    let identity = |number| {
        let user = format!("b_{number:05}");
        let token = token::valid(Role::User, &user)?;
        Ok(Identity { user, token })
    };
    (0..count).map(identity).collect()
}

/// Connects all of these, and returns once they are welcomed, with the time that it took.
pub async fn connect(clients: &Clients, server: &Running, identities: &[Identity]) -> Result<Duration> {
    let before = usize::try_from(clients.seen.welcomed.load(Ordering::Relaxed))?;
    let started = Instant::now();
    let nodes = server
        .others
        .iter()
        .map(|(address, _)| *address)
        .chain([server.address]);
    let each = identities.len().div_ceil(server.others.len() + 1).max(1);
    for (address, identities) in nodes.zip(identities.chunks(each)) {
        clients.connect(address, server.protocol, identities);
    }
    clients.welcomed(before + identities.len(), WELCOMED_WITHIN).await?;
    Ok(started.elapsed())
}

/// What the notices of a window needed.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Notices that were published.
    pub sent: u64,
    /// Notices that were not received.
    pub lost: u64,
    /// The median of the latencies, in microseconds.
    pub p50_micros: f64,
    /// Their 99th percentile.
    pub p99_micros: f64,
    /// CPU time of the server's processes for each notice.
    pub cpu_micros: f64,
}

/// Publishes at a rate for this long, and waits until the last notice is received.
/// Fails if no notice is received.
pub async fn window(
    clients: &Clients,
    server: &Running,
    to: &[Identity],
    rate: u64,
    duration: Duration,
) -> Result<Window> {
    let passing = async {
        let_time_pass("a window of notices", duration).await;
        Ok(())
    };
    Ok(window_during(clients, server, to, rate, passing).await?.0)
}

/// Publishes at a rate until something else is done, and waits until the last notice is received.
/// Fails if no notice is received, or the other thing fails.
pub async fn window_during<T>(
    clients: &Clients,
    server: &Running,
    to: &[Identity],
    rate: u64,
    other: impl Future<Output = Result<T>>,
) -> Result<(Window, T)> {
    let seen = &clients.seen;
    seen.latency.clear();
    let before = seen.notices.load(Ordering::Relaxed);
    let cpu_before = server.cpu_nanos()?;
    let publisher = Publisher::start(server, to, rate, seen.epoch)?;
    let done = other.await;
    // The connection stays until all is delivered.
    let (sent, _source) = publisher.stop().await?;
    let done = done?;
    let (mut received, mut changed) = (0, Instant::now());
    while received < sent && changed.elapsed() < SILENCE {
        let now = seen.notices.load(Ordering::Relaxed) - before;
        if now != received {
            (received, changed) = (now, Instant::now());
        }
        let_time_pass("a poll must not load the machine", POLL_INTERVAL).await;
    }
    ensure!(received > 0, "no notice was received");
    let cpu = server.cpu_nanos()?.saturating_sub(cpu_before);
    let micros = |share| seen.latency.quantile(share) as f64 / 1e3;
    let window = Window {
        sent,
        lost: sent.saturating_sub(received),
        p50_micros: micros(0.5),
        p99_micros: micros(0.99),
        cpu_micros: cpu as f64 / 1e3 / received as f64,
    };
    Ok((window, done))
}

/// Publishes notices in a thread of its own.
#[derive(Debug)]
pub struct Publisher {
    is_over: Arc<AtomicBool>,
    publishing: JoinHandle<Result<(u64, NoticeSource)>>,
}

impl Publisher {
    /// Publishes to these clients in turns, so many notices a second.
    pub fn start(server: &Running, to: &[Identity], rate: u64, epoch: Instant) -> Result<Self> {
        let source = NoticeSource::connect(server.nats_port)?;
        let users: Vec<String> = to.iter().map(|identity| identity.user.clone()).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let publishing = tokio::task::spawn_blocking(move || {
            let sent = source.publish(&users, rate, epoch, || until.load(Ordering::Relaxed))?;
            Ok((sent, source))
        });
        Ok(Self { is_over, publishing })
    }

    /// Stops, and returns how many were published, over which connection.
    pub async fn stop(self) -> Result<(u64, NoticeSource)> {
        self.is_over.store(true, Ordering::Relaxed);
        self.publishing.await?
    }
}
