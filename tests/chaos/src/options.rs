//! What can be chosen, and what follows from it.

use std::time::Duration;

use clap::Parser;

use crate::faults::fault_schedule::{FaultKind, FaultKinds, ScheduleOptions};

/// Callers come one after another for so long; then the first fault may strike.
const FULL_AFTER: Duration = Duration::from_secs(12);
/// No election of nats-servers takes longer than that, as a rule.
const NATS_REST: Duration = Duration::from_secs(8);
/// More pairs than calls: at any timestamp some ring, some end.
const SPARE_PER_CENT: usize = 20;

/// What can be chosen.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "chaos",
    about = "Many calls on the real stack while its parts are killed, frozen and cut off; then a checker reads what is stored"
)]
pub struct Options {
    /// Decides which faults strike when and what becomes of each call; a random one if left out
    #[arg(long)]
    pub seed: Option<u64>,
    /// Runs, one after another, each with the next seed; recovery is judged over all of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// How long calls are made in each, in seconds; starting and settling come on top
    #[arg(long, default_value_t = 300)]
    pub duration: u64,
    /// Calls that shall be connected at the same time
    #[arg(long, default_value_t = 200)]
    pub calls: usize,
    /// How long parties talk on average, in seconds
    #[arg(long, default_value_t = 35)]
    pub talk: u64,
    /// From one fault to the next, about, in seconds
    #[arg(long, default_value_t = 10.0)]
    pub gap: f64,
    /// The longest freeze, cut or stall, in seconds
    #[arg(long, default_value_t = 12.0)]
    pub longest: f64,
    /// The longest time without any nats-server, in seconds
    #[arg(long, default_value_t = 30.0)]
    pub longest_outage: f64,
    /// After a fault, before the next, at least, in seconds; nats-servers get twice as much
    #[arg(long, default_value_t = 6.0)]
    pub rest: f64,
    /// Faults to choose from, as `timer-kill`, or all of a part or kind, as `edge` or `freeze`; all if left out
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub kinds: Vec<FaultKinds>,
    /// No faults at all
    #[arg(long)]
    pub calm: bool,
    /// media-worker processes
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// ws-edge processes
    #[arg(long, default_value_t = 2)]
    pub edges: usize,
    /// billing-timer processes
    #[arg(long, default_value_t = 3)]
    pub timers: usize,
    /// One nats-server instead of a cluster of three
    #[arg(long)]
    pub single: bool,
    /// Length of a minute, in milliseconds
    #[arg(long, default_value_t = 2_000)]
    pub interval_ms: u64,
    /// Keep logs and stores even if all is well
    #[arg(long)]
    pub keep: bool,
}

impl Options {
    /// How long calls are made.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }

    /// A minute.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// Over what time the pairs begin.
    #[must_use]
    pub fn full_after(&self) -> Duration {
        FULL_AFTER.min(self.duration() / 4)
    }

    /// Pairs that call each other.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.calls + (self.calls * SPARE_PER_CENT).div_ceil(100)
    }

    /// What the schedule is thrown from.
    #[must_use]
    pub fn terms(&self) -> ScheduleOptions {
        let chosen: Vec<FaultKind> = self.kinds.iter().flat_map(|kinds| kinds.0.clone()).collect();
        let mut kinds: Vec<FaultKind> = FaultKind::all();
        kinds.retain(|kind| !self.calm && (chosen.is_empty() || chosen.contains(kind)));
        let longest = Duration::from_secs_f64(self.longest);
        ScheduleOptions {
            kinds,
            edges: self.edges,
            workers: self.workers,
            timers: self.timers,
            nodes: if self.single { 1 } else { 3 },
            first: self.full_after(),
            last: self.duration(),
            gap: Duration::from_secs_f64(self.gap),
            longest,
            longest_outage: Duration::from_secs_f64(self.longest_outage),
            rest: Duration::from_secs_f64(self.rest),
            nats_rest: Duration::from_secs_f64(self.rest * 2.0).max(NATS_REST),
        }
    }
}
