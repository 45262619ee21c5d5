//! The clients of a measurement, and the notices that they receive.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::let_time_pass;

use crate::clients::{Clients, Identity};
use crate::contestant::Running;
use crate::notice_source::NoticeSource;
use crate::usage;

/// Without another notice for this long, the rest is lost.
const SILENCE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The deadline for clients to be welcomed.
const WELCOMED_WITHIN: Duration = Duration::from_secs(90);

/// Clients with tokens.
pub(super) fn identities(count: usize) -> Result<Vec<Identity>> {
    let identity = |number| {
        let user = format!("b_{number:05}");
        let token = token::valid(Role::User, &user)?;
        Ok(Identity { user, token })
    };
    (0..count).map(identity).collect()
}

/// Connects all of these, and returns once they are welcomed, with the time that it took.
pub(super) async fn connect(clients: &Clients, server: &Running, identities: &[Identity]) -> Result<Duration> {
    let before = usize::try_from(clients.seen.welcomed.load(Ordering::Relaxed))?;
    let started = Instant::now();
    clients.connect(server.address, server.protocol, identities);
    clients.welcomed(before + identities.len(), WELCOMED_WITHIN).await?;
    Ok(started.elapsed())
}

/// What the notices of a window needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) p50_micros: f64,
    pub(super) p99_micros: f64,
    pub(super) cpu_micros: f64,
}

/// Publishes at a rate, and waits until the last notice is received.
pub(super) async fn window(
    clients: &Clients,
    server: &Running,
    to: &[Identity],
    rate: u64,
    duration: Duration,
) -> Result<Window> {
    let source = NoticeSource::connect(server.nats_port)?;
    let users: Vec<String> = to.iter().map(|identity| identity.user.clone()).collect();
    let seen = &clients.seen;
    seen.latency.clear();
    let before = seen.notices.load(Ordering::Relaxed);
    let cpu_before = usage::cpu_nanos(server.pid)?;
    let epoch = seen.epoch;
    let publishing = move || {
        let sent = source.publish(&users, rate, duration, epoch);
        sent.map(|sent| (sent, source))
    };
    // The connection stays until all is delivered.
    let (sent, _source) = tokio::task::spawn_blocking(publishing).await??;
    let (mut received, mut changed) = (0, Instant::now());
    while received < sent && changed.elapsed() < SILENCE {
        let now = seen.notices.load(Ordering::Relaxed) - before;
        if now != received {
            (received, changed) = (now, Instant::now());
        }
        let_time_pass("a poll must not load the machine", POLL_INTERVAL).await;
    }
    ensure!(received > 0, "no notice was received");
    let cpu = usage::cpu_nanos(server.pid)?.saturating_sub(cpu_before);
    let micros = |share| seen.latency.quantile(share) as f64 / 1e3;
    Ok(Window {
        sent,
        lost: sent.saturating_sub(received),
        p50_micros: micros(0.5),
        p99_micros: micros(0.99),
        cpu_micros: cpu as f64 / 1e3 / received as f64,
    })
}
