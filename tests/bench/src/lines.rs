//! The measurements. Each repeat starts every server once more, so that slow drifts of the machine reach all of them.

mod connecting;
mod memory;
mod notices;
mod ticks;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::figures::{Against, Figures, Goal};

/// How to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of our release builds.
    pub services: PathBuf,
    /// Repeats, in turns.
    pub repeats: usize,
    /// Shorter windows.
    pub short: bool,
}

/// The names of all lines, in the order of the table.
pub const LINES: [&str; 5] = ["notices", "memory", "storm", "joining", "ticks"];

/// Measures one line.
///
/// # Errors
/// When there is no such line, or a server fails.
pub async fn measure(line: &str, plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    match line {
        "notices" => notices::measure(plan, progress).await,
        "memory" => memory::measure(plan, progress).await,
        "storm" => connecting::storm(plan, progress).await,
        "joining" => connecting::joining(plan, progress).await,
        "ticks" => ticks::measure(plan, progress).await,
        _ => bail!("no line {line}"),
    }
}

const fn goal(
    line: &'static str,
    case: &'static str,
    metric: &'static str,
    against: Against,
    limit: Option<f64>,
) -> Goal {
    Goal {
        line,
        case,
        metric,
        against,
        limit,
    }
}

const NODE: Against = Against::Peer("Node ws");
const BUN: Against = Against::Peer("uWebSockets (Bun)");
const NATS: Against = Against::Peer("nats-server WebSocket");
const P50: &str = "p50 µs";
const P99: &str = "p99 µs";
const CPU: &str = "CPU µs/notice";

const LAST: &str = "last stored after ms";

/// The goals, in the order of the table.
pub const GOALS: [Goal; 38] = [
    goal("notices", "200/s", P50, NODE, Some(0.70)),
    goal("notices", "200/s", P99, NODE, Some(0.50)),
    goal("notices", "200/s", CPU, NODE, Some(0.50)),
    goal("notices", "200/s", P50, BUN, None),
    goal("notices", "200/s", P99, BUN, None),
    goal("notices", "200/s", CPU, BUN, None),
    goal("notices", "200/s", P50, NATS, Some(1.25)),
    goal("notices", "5000/s", P50, NODE, Some(0.8)),
    goal("notices", "5000/s", P99, NODE, None),
    goal("notices", "5000/s", CPU, NODE, Some(0.7)),
    goal("notices", "5000/s", P50, BUN, Some(0.95)),
    goal("notices", "5000/s", P99, BUN, Some(0.95)),
    goal("notices", "5000/s", CPU, BUN, Some(0.95)),
    goal("notices", "5000/s", P50, NATS, Some(1.25)),
    goal("notices", "20000/s", P50, NODE, Some(0.7)),
    goal("notices", "20000/s", P99, NODE, Some(0.4)),
    goal("notices", "20000/s", CPU, NODE, Some(0.8)),
    goal("notices", "20000/s", P50, BUN, None),
    goal("notices", "20000/s", P99, BUN, None),
    goal("notices", "20000/s", CPU, BUN, Some(0.95)),
    goal("notices", "20000/s", P50, NATS, Some(1.25)),
    goal("notices", "80000/s", P50, NODE, Some(0.1)),
    goal("notices", "80000/s", P99, NODE, Some(0.1)),
    goal("notices", "80000/s", CPU, NODE, Some(0.6)),
    goal("notices", "80000/s", P50, BUN, Some(0.1)),
    goal("notices", "80000/s", P99, BUN, Some(0.1)),
    goal("notices", "80000/s", CPU, BUN, Some(0.9)),
    goal("memory", "10000 sockets", "KiB/socket", Against::Itself, Some(10.0)),
    goal("memory", "10000 sockets", "KiB/socket", NODE, None),
    goal("memory", "10000 sockets", "KiB/socket", BUN, None),
    goal("storm", "10000 sockets", "welcomed after ms", NODE, Some(0.25)),
    goal("storm", "10000 sockets", "welcomed after ms", BUN, Some(0.4)),
    goal("joining", "7500 join", P99, Against::Case("calm"), Some(3.0)),
    goal("joining", "7500 join", P99, NODE, None),
    goal(
        "ticks",
        "10000 at once",
        "ticks/s",
        Against::Peer("bare batches"),
        Some(0.7),
    ),
    goal("ticks", "10000 at once", LAST, Against::Peer("BullMQ"), None),
    goal("ticks", "10000 at once", LAST, Against::Peer("one by one"), None),
    goal("ticks", "10000 at once", LAST, Against::Peer("NATS scheduler"), None),
];
