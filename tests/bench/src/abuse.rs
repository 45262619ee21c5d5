//! `make abuse`: clients that misbehave, or all come at once, beside others that receive notices.
//!
//! Each case has an edge of its own, and the latency of its notices in the calm before.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::child::resident_bytes;
use callpulse_tests::terminal::interrupt;
use callpulse_tests::terminal::screen::{LineKind, Screen};
use callpulse_tests::wait::{eventually, let_time_pass};
use clap::Parser;

use crate::clients::{Clients, Identity};
use crate::parties::{Publisher, Window, connect, identities, window, window_during};
use crate::server_kind::Running;

/// The most that the p99 of notices may be, in multiples of the calm one.
const GOAL: f64 = 3.0;
/// Clients that connect while connections are half-open.
const NEWCOMERS: usize = 20;
/// Descriptors of this process besides the sockets of clients.
const OTHER_DESCRIPTORS: u64 = 200;
/// How long an edge may take longer to close all that it has to close.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const OPENED_WITHIN: Duration = Duration::from_secs(30);
const SETTLING: Duration = Duration::from_secs(2);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
const MIB: f64 = 1024.0 * 1024.0;
/// Memory that any case may take, besides that for each socket.
const MEMORY: u64 = 32 << 20;

/// Options of the command.
#[derive(Debug, Clone, Parser)]
#[command(
    about = "Misuses a ws-edge in several ways beside clients in calls, and judges what those notice",
    after_help = "Exit code 1: a good client lost a notice or its connection, or the edge took too much memory. A missed goal of the \
                  latency does not fail the command, because it depends on the machine."
)]
pub struct Options {
    /// The program ws-edge, a release build
    #[arg(long, default_value = "target/release/ws-edge")]
    pub edge: PathBuf,
    /// Good clients, which receive notices
    #[arg(long, default_value_t = 500)]
    pub good: usize,
    /// Notices a second to the good clients
    #[arg(long, default_value_t = 1_000)]
    pub rate: u64,
    /// Connections that never complete a request
    #[arg(long, default_value_t = 10_000)]
    pub half_open: usize,
    /// Clients that do not read
    #[arg(long, default_value_t = 1_000)]
    pub unread: usize,
    /// Notices a second to the clients that do not read: enough to fill a queue before limits.write_timeout_ms
    #[arg(long, default_value_t = 30_000)]
    pub unread_rate: u64,
    /// Clients that lose their connection and reconnect all at once
    #[arg(long, default_value_t = 10_000)]
    pub storm: usize,
    /// The edge's limits.handshake_timeout_ms
    #[arg(long, default_value_t = 10_000)]
    pub handshake_timeout_ms: usize,
    /// Seconds of calm before each case
    #[arg(long, default_value_t = 3)]
    pub calm: u64,
}

/// What happens beside the good clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    HalfOpen,
    Unread,
    Storm,
}

/// What was measured in a case.
#[derive(Debug)]
pub struct Outcome {
    case: Case,
    sockets: usize,
    calm: Window,
    abused: Window,
    /// Resident memory of the edge before, at most, and after, in bytes.
    memory: [u64; 3],
    lost_connections: u64,
}

impl Case {
    const ALL: [Self; 3] = [Self::HalfOpen, Self::Unread, Self::Storm];

    fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open connections",
            Self::Unread => "clients that do not read",
            Self::Storm => "clients that reconnect",
        }
    }

    /// Bytes that a socket may take.
    fn memory(self) -> u64 {
        match self {
            // Its task, and hyper's buffer for the head of a request.
            Self::HalfOpen => 24 << 10,
            // A whole queue of notices.
            Self::Unread => 128 << 10,
            // Sockets that are closed and others that are opened meanwhile.
            Self::Storm => 24 << 10,
        }
    }

    fn sockets(self, options: &Options) -> usize {
        match self {
            Self::HalfOpen => options.half_open,
            Self::Unread => options.unread,
            Self::Storm => options.storm,
        }
    }
}

/// Plays all cases, and prints the table.
pub async fn main(options: Options) -> ExitCode {
    let screen = Screen::new();
    let progress = |text: &str| screen.line(LineKind::Quiet, text);
    let work = async { report(&screen, &run(&options, &progress).await?) };
    interrupt::run(&screen, work).await
}

/// Plays all cases, each with an edge of its own.
pub async fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Vec<Outcome>> {
    let sockets = Case::ALL.map(|case| case.sockets(options)).into_iter().max();
    let needed = (options.good + NEWCOMERS + sockets.unwrap_or_default()) as u64 + OTHER_DESCRIPTORS;
    let allowed = service::descriptors::raise_limit()?;
    ensure!(
        needed <= allowed,
        "needs {needed} open files, and this process may have {allowed}: raise the hard limit (ulimit -Hn {needed}), or play with fewer \
         sockets (--half-open, --storm, --good)"
    );
    let mut outcomes = Vec::new();
    for case in Case::ALL {
        let outcome = play(case, options, progress).await;
        outcomes.push(outcome.with_context(|| case.name())?);
    }
    Ok(outcomes)
}

async fn play(case: Case, options: &Options, progress: &dyn Fn(&str)) -> Result<Outcome> {
    let sockets = case.sockets(options);
    let connections = match case {
        // The half-open ones have no place besides the good clients.
        Case::HalfOpen => sockets,
        Case::Unread | Case::Storm => options.good + sockets,
    };
    let folder = tempfile::Builder::new().prefix("callpulse-abuse-").tempdir()?;
    let settings = [
        ("limits.connections", connections),
        ("limits.handshake_timeout_ms", options.handshake_timeout_ms),
    ];
    let server = Running::edge(&options.edge, folder, &settings).await?;
    let identities = identities(options.good + sockets.max(NEWCOMERS))?;
    let (good, others) = identities.split_at(options.good);
    let clients = Clients::new()?;
    connect(&clients, &server, good).await?;
    let calm_for = Duration::from_secs(options.calm);
    window(&clients, &server, good, options.rate, calm_for / 2).await?;
    let calm = window(&clients, &server, good, options.rate, calm_for).await?;
    let memory = Memory::watch(server.pid)?;
    progress(&format!(
        "{sockets} {} beside {} good ones, p99 {:.0} µs until now",
        case.name(),
        options.good,
        calm.p99_micros
    ));
    let (newcomers, others) = (others.get(..NEWCOMERS), others.get(..sockets));
    let (newcomers, others) = (newcomers.unwrap_or_default(), others.unwrap_or_default());
    let before = Clients::in_background()?;
    if case == Case::Storm {
        connect(&before, &server, others).await?;
    }
    let abuse = async {
        match case {
            Case::HalfOpen => half_open(&server, sockets, newcomers, progress).await,
            Case::Unread => unread(&server, others, options.unread_rate, progress).await,
            Case::Storm => storm(&server, options.good, before, others, progress).await,
        }
    };
    let (abused, _abusers) = window_during(&clients, &server, good, options.rate, abuse).await?;
    let_time_pass("memory settles", SETTLING).await;
    Ok(Outcome {
        case,
        sockets,
        calm,
        abused,
        memory: memory.end()?,
        lost_connections: clients.seen.lost.load(Ordering::Relaxed),
    })
}

/// Until the edge has closed all of them. Meanwhile, other clients must be able to connect.
async fn half_open(server: &Running, count: usize, newcomers: &[Identity], progress: &dyn Fn(&str)) -> Result<Clients> {
    let (abusers, others) = (Clients::in_background()?, Clients::new()?);
    abusers.half_open(server.address, count);
    abusers.welcomed(count, OPENED_WITHIN).await?;
    let took = connect(&others, server, newcomers).await?;
    progress(&format!(
        "all are open; {NEWCOMERS} other clients are welcomed within {:.0} ms",
        took.as_secs_f64() * 1e3
    ));
    let is_closed = async || {
        let closed = abusers.seen.lost.load(Ordering::Relaxed);
        ensure!(closed >= count as u64, "{closed} of {count} are closed");
        Ok(())
    };
    eventually("all half-open connections closed", CLOSED_WITHIN, is_closed).await?;
    let lost = others.seen.lost.load(Ordering::Relaxed);
    ensure!(lost == 0, "{lost} of the other clients were disconnected");
    progress("the edge has closed all of them");
    Ok(others)
}

/// Until the edge has closed all of them.
async fn unread(server: &Running, identities: &[Identity], rate: u64, progress: &dyn Fn(&str)) -> Result<Clients> {
    let abusers = Clients::in_background()?;
    abusers.connect_without_reading(server.address, identities);
    abusers.welcomed(identities.len(), OPENED_WITHIN).await?;
    progress(&format!("all are connected, and are sent {rate} notices a second"));
    let publisher = Publisher::start(server, identities, rate, Instant::now())?;
    let is_closed = async || {
        let mut closed = 0.0;
        for reason in ["slow", "stuck"] {
            let metric = format!("callpulse_ws_closed_total{{reason=\"{reason}\"}}");
            closed += server.metric(&metric).await?;
        }
        ensure!(closed >= identities.len() as f64, "{closed} are closed");
        Ok(())
    };
    eventually("all clients that do not read closed", 2 * CLOSED_WITHIN, is_closed).await?;
    let (sent, _) = publisher.stop().await?;
    progress(&format!("the edge has closed all of them after {sent} notices"));
    Ok(abusers)
}

/// Until all are welcomed again.
async fn storm(
    server: &Running,
    good: usize,
    before: Clients,
    identities: &[Identity],
    progress: &dyn Fn(&str),
) -> Result<Clients> {
    let again = Clients::in_background()?;
    drop(before);
    eventually("the end of all connections", CLOSED_WITHIN, async || {
        let open = server.metric("callpulse_ws_connections").await?;
        ensure!(open <= good as f64, "{open} are open");
        Ok(())
    })
    .await?;
    let took = connect(&again, server, identities).await?;
    let millis = took.as_secs_f64() * 1e3;
    progress(&format!(
        "all lost their connection, and are welcomed again after {millis:.0} ms"
    ));
    Ok(again)
}

/// The memory of a process, in samples.
struct Memory {
    pid: u32,
    before: u64,
    peak: Arc<AtomicU64>,
    sampling: tokio::task::JoinHandle<()>,
}

impl Memory {
    fn watch(pid: u32) -> Result<Self> {
        let before = resident_bytes(pid)?;
        let peak = Arc::new(AtomicU64::new(before));
        let sampled = Arc::clone(&peak);
        let sampling = tokio::spawn(async move {
            while let Ok(bytes) = resident_bytes(pid) {
                sampled.fetch_max(bytes, Ordering::Relaxed);
                let_time_pass("between two samples", SAMPLE_INTERVAL).await;
            }
        });
        Ok(Self {
            pid,
            before,
            peak,
            sampling,
        })
    }

    fn end(self) -> Result<[u64; 3]> {
        self.sampling.abort();
        let after = resident_bytes(self.pid)?;
        Ok([self.before, self.peak.load(Ordering::Relaxed).max(after), after])
    }
}

impl Outcome {
    /// The most memory that the edge may take.
    fn memory_bound(&self) -> u64 {
        let [before, ..] = self.memory;
        before + MEMORY + self.case.memory() * self.sockets as u64
    }

    /// Checks that no good client lost anything, and that the edge's memory is bounded.
    pub fn check(&self) -> Result<()> {
        let (name, bound) = (self.case.name(), self.memory_bound());
        let lost = self.calm.lost + self.abused.lost;
        ensure!(lost == 0, "{name}: good clients lost {lost} notices");
        let disconnected = self.lost_connections;
        ensure!(
            disconnected == 0,
            "{name}: {disconnected} good clients were disconnected"
        );
        let [_, peak, _] = self.memory;
        ensure!(
            peak <= bound,
            "{name}: the edge took {:.0} MiB, more than {:.0}",
            peak as f64 / MIB,
            bound as f64 / MIB
        );
        Ok(())
    }
}

fn report(screen: &Screen, outcomes: &[Outcome]) -> Result<()> {
    screen.heading("Notices to the good clients in the calm and beside others, and the memory of ws-edge");
    screen.plain(
        LineKind::Heading,
        &format!(
            "{:<32} {:>17} {:>17} {:>7} {:>5}  {:<6} {:>5}  {:>24} {:>6}",
            "beside",
            "calm p50, p99 µs",
            "p50, p99 µs",
            "× calm",
            "goal",
            "",
            "lost",
            "MiB before, peak, after",
            "bound"
        ),
    );
    for outcome in outcomes {
        let Outcome {
            case,
            sockets,
            calm,
            abused,
            ..
        } = outcome;
        let ratio = abused.p99_micros / calm.p99_micros;
        let (kind, verdict) = if ratio <= GOAL {
            (LineKind::Good, "met")
        } else {
            (LineKind::Bad, "missed")
        };
        let [before, peak, after] = outcome.memory.map(|bytes| bytes as f64 / MIB);
        screen.plain(
            kind,
            &format!(
                "{:<32} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {ratio:>7.1} {:>5}  {verdict:<6} {:>5}  {before:>8.0} {peak:>7.0} {after:>7.0} {:>6.0}",
                format!("{sockets} {}", case.name()),
                calm.p50_micros,
                calm.p99_micros,
                abused.p50_micros,
                abused.p99_micros,
                format!("≤ {GOAL}"),
                abused.lost,
                outcome.memory_bound() as f64 / MIB,
            ),
        );
    }
    outcomes.iter().try_for_each(Outcome::check)
}
