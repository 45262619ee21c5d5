//! The benchmarks. Each repeat starts every server once more, so that slow drifts of the machine reach all of them.

mod connecting;
mod growth;
mod media;
mod memory;
mod notices;
mod retained;
mod setups;
mod ticks;

use std::path::PathBuf;

use anyhow::{Result, bail};
use callpulse_tests::servers::nats_server::Sync;
use callpulse_tests::servers::stack::StackBuilder;

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
    /// The most subjects that `retained` stores.
    pub retained: u64,
}

impl Plan {
    /// One of each, ws-edge and billing-timer as release builds. Writes are synced to the disk.
    fn stack(&self) -> StackBuilder {
        let stack = StackBuilder::default().sync(Sync::Always);
        let release = |stack: StackBuilder, program| stack.binary(program, self.services.join(program));
        ["ws-edge", "billing-timer"].into_iter().fold(stack, release)
    }
}

/// The names of all benchmarks, in the order of the table.
pub const NAMES: [&str; 9] = [
    "notices", "memory", "storm", "joining", "ticks", "media", "setups", "growth", "retained",
];
/// Those that `--short` leaves out, unless they are named: they take minutes.
pub const LONG: [&str; 2] = ["media", "growth"];

/// Runs one benchmark.
pub async fn measure(name: &str, plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    match name {
        "notices" => notices::measure(plan, progress).await,
        "memory" => memory::measure(plan, progress).await,
        "storm" => connecting::storm(plan, progress).await,
        "joining" => connecting::joining(plan, progress).await,
        "ticks" => ticks::measure(plan, progress).await,
        "media" => media::measure(plan, progress).await,
        "setups" => setups::measure(plan, progress).await,
        "growth" => growth::measure(plan, progress).await,
        "retained" => retained::measure(plan, progress).await,
        _ => bail!("no benchmark {name}"),
    }
}

const fn goal(
    benchmark: &'static str,
    case: &'static str,
    metric: &'static str,
    against: Against,
    limit: Option<f64>,
) -> Goal {
    Goal {
        benchmark,
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

const BATCHES: Against = Against::Peer("bare batches");
const LAST: &str = "last stored after ms";

const BARE: Against = Against::Peer("bare mediasoup");
const TRACED: Against = Against::Peer("every packet traced");
const CPU_PACKET: &str = "CPU µs/packet";
const MIB: &str = "resident MiB";

const SET_UPS: &str = "16 pairs";
const SET_UP_RATE: &str = "set-ups/s";
const SET_UP_P50: &str = "p50 ms";
const SET_UP_P99: &str = "p99 ms";
const SET_UP_CPU: &str = "CPU ms/set-up";
const MEAN: &str = "mean ms";

const CPU_TICK: &str = "CPU µs/tick";

const FEWEST_SUBJECTS: Against = Against::Case("100000 subjects");
const GUARDED_P50: &str = "guarded publish p50 µs";
const GUARDED_P99: &str = "guarded publish p99 µs";
const NATS_BYTES: &str = "nats-server B/subject";
const NATS_START: &str = "nats-server started after ms";
const NATS_START_KILLED: &str = "nats-server started after a kill, ms";
const EDGE_START: &str = "ws-edge ready after ms";
const WORKER_START: &str = "media-worker ready after ms";
const TIMER_START: &str = "billing-timer ready after ms";
/// A cost that grows by less is flat: beside it, machines vary.
const FLAT: Option<f64> = Some(1.5);

/// The goals, in the order of the table.
pub const GOALS: [Goal; 108] = [
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
    goal("ticks", "10000 at once", "ticks/s", BATCHES, Some(0.7)),
    goal("ticks", "10000 at once", LAST, Against::Peer("BullMQ"), None),
    goal("ticks", "10000 at once", LAST, Against::Peer("one by one"), None),
    goal("ticks", "10000 at once", LAST, Against::Peer("NATS scheduler"), None),
    goal("media", "50 calls", CPU_PACKET, BARE, Some(1.05)),
    goal("media", "50 calls", CPU_PACKET, TRACED, None),
    goal("media", "50 calls", MIB, BARE, Some(1.05)),
    goal("media", "200 calls", CPU_PACKET, BARE, Some(1.05)),
    goal("media", "200 calls", CPU_PACKET, TRACED, None),
    goal("media", "200 calls", MIB, BARE, Some(1.05)),
    goal("media", "500 calls", CPU_PACKET, BARE, Some(1.05)),
    goal("media", "500 calls", CPU_PACKET, TRACED, None),
    goal("media", "500 calls", MIB, BARE, Some(1.05)),
    goal("setups", SET_UPS, SET_UP_RATE, Against::Itself, None),
    goal("setups", SET_UPS, SET_UP_P50, Against::Itself, None),
    goal("setups", SET_UPS, SET_UP_P99, Against::Itself, None),
    goal("setups", "ws-edge", SET_UP_CPU, Against::Itself, None),
    goal("setups", "media-worker", SET_UP_CPU, Against::Itself, None),
    goal("setups", "billing-timer", SET_UP_CPU, Against::Itself, None),
    goal("setups", "nats-server", SET_UP_CPU, Against::Itself, None),
    goal("setups", "clients", SET_UP_CPU, Against::Itself, None),
    goal("setups", "call_request", MEAN, Against::Itself, None),
    goal("setups", "call_accept", MEAN, Against::Itself, None),
    goal("setups", "rtc_create_transport", MEAN, Against::Itself, None),
    goal("setups", "rtc_connect_transport", MEAN, Against::Itself, None),
    goal("setups", "rtc_produce", MEAN, Against::Itself, None),
    goal("setups", "rtc_consume", MEAN, Against::Itself, None),
    goal("setups", "first packet, fact stored", MEAN, Against::Itself, None),
    goal("growth", "100 sockets", P50, Against::Case("10 sockets"), FLAT),
    goal("growth", "100 sockets", P99, Against::Case("10 sockets"), FLAT),
    goal("growth", "100 sockets", CPU, Against::Case("10 sockets"), FLAT),
    goal("growth", "1000 sockets", P50, Against::Case("10 sockets"), FLAT),
    goal("growth", "1000 sockets", P99, Against::Case("10 sockets"), FLAT),
    goal("growth", "1000 sockets", CPU, Against::Case("10 sockets"), FLAT),
    goal("growth", "10000 sockets", P50, Against::Case("10 sockets"), FLAT),
    goal("growth", "10000 sockets", P99, Against::Case("10 sockets"), FLAT),
    goal("growth", "10000 sockets", CPU, Against::Case("10 sockets"), FLAT),
    goal("growth", "edges: 2", P50, Against::Case("edges: 1"), FLAT),
    goal("growth", "edges: 2", P99, Against::Case("edges: 1"), FLAT),
    goal("growth", "edges: 2", CPU, Against::Case("edges: 1"), FLAT),
    goal("growth", "edges: 4", P50, Against::Case("edges: 1"), FLAT),
    goal("growth", "edges: 4", P99, Against::Case("edges: 1"), FLAT),
    goal("growth", "edges: 4", CPU, Against::Case("edges: 1"), FLAT),
    goal("growth", "100 calls", CPU_TICK, Against::Case("10 calls"), FLAT),
    goal("growth", "100 calls", LAST, Against::Case("10 calls"), None),
    goal("growth", "1000 calls", CPU_TICK, Against::Case("10 calls"), FLAT),
    goal("growth", "1000 calls", LAST, Against::Case("10 calls"), None),
    goal("growth", "10000 calls", CPU_TICK, Against::Case("10 calls"), FLAT),
    goal("growth", "10000 calls", LAST, Against::Case("10 calls"), None),
    goal("growth", "timers: 2", CPU_TICK, Against::Case("timers: 1"), FLAT),
    goal("growth", "timers: 2", LAST, Against::Case("timers: 1"), None),
    goal("growth", "timers: 4", CPU_TICK, Against::Case("timers: 1"), FLAT),
    goal("growth", "timers: 4", LAST, Against::Case("timers: 1"), None),
    goal("growth", "workers: 2", CPU_PACKET, Against::Case("workers: 1"), FLAT),
    goal("growth", "workers: 2", MIB, Against::Case("workers: 1"), None),
    goal("growth", "workers: 4", CPU_PACKET, Against::Case("workers: 1"), FLAT),
    goal("growth", "workers: 4", MIB, Against::Case("workers: 1"), None),
    goal("retained", "100000 subjects", GUARDED_P50, Against::Itself, None),
    goal("retained", "1000000 subjects", GUARDED_P50, FEWEST_SUBJECTS, FLAT),
    goal("retained", "1000000 subjects", GUARDED_P99, FEWEST_SUBJECTS, FLAT),
    goal("retained", "1000000 subjects", NATS_BYTES, Against::Itself, None),
    goal("retained", "1000000 subjects", NATS_START, Against::Itself, None),
    goal("retained", "1000000 subjects", NATS_START_KILLED, Against::Itself, None),
    goal("retained", "1000000 subjects", EDGE_START, FEWEST_SUBJECTS, FLAT),
    goal("retained", "1000000 subjects", WORKER_START, FEWEST_SUBJECTS, FLAT),
    goal("retained", "1000000 subjects", TIMER_START, FEWEST_SUBJECTS, FLAT),
    goal("retained", "4000000 subjects", GUARDED_P50, FEWEST_SUBJECTS, FLAT),
    goal("retained", "4000000 subjects", GUARDED_P99, FEWEST_SUBJECTS, FLAT),
    goal("retained", "4000000 subjects", NATS_BYTES, Against::Itself, None),
    goal("retained", "4000000 subjects", NATS_START, Against::Itself, None),
    goal("retained", "4000000 subjects", NATS_START_KILLED, Against::Itself, None),
    goal("retained", "4000000 subjects", EDGE_START, FEWEST_SUBJECTS, FLAT),
    goal("retained", "4000000 subjects", WORKER_START, FEWEST_SUBJECTS, FLAT),
    goal("retained", "4000000 subjects", TIMER_START, FEWEST_SUBJECTS, FLAT),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_benchmark_has_a_goal_and_every_goal_a_benchmark() {
        let names = BTreeSet::from(NAMES);
        assert_eq!(GOALS.iter().map(|goal| goal.benchmark).collect::<BTreeSet<_>>(), names);
        assert!(LONG.iter().all(|name| names.contains(name)));
    }
}
