//! The command line, and derived values.

use std::time::Duration;

use clap::Parser;

use crate::faults::fault_schedule::{FaultKind, FaultKinds, ScheduleOptions};

/// The pairs start over this time. Then the first fault may be injected.
const FULL_AFTER: Duration = Duration::from_secs(12);
/// Longer than most elections of nats-servers.
const NATS_REST: Duration = Duration::from_secs(8);
/// The additional pairs, because some calls are ringing or ending.
const SPARE_PER_CENT: usize = 20;

/// The command line.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "chaos",
    about = "Many calls on the real stack while its parts are killed, frozen and cut off; then a checker reads what is stored"
)]
pub struct Options {
    /// Decides the faults and the plan of each call; random by default
    #[arg(long)]
    pub seed: Option<u64>,
    /// Runs, one after another, each with the next seed; recovery is measured over all of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Duration of each run in seconds, without start and settlement
    #[arg(long, default_value_t = 300)]
    pub duration: u64,
    /// Target of simultaneously connected calls
    #[arg(long, default_value_t = 200)]
    pub calls: usize,
    /// Mean duration of a conversation, in seconds
    #[arg(long, default_value_t = 35)]
    pub talk: u64,
    /// Approximate time between faults, in seconds
    #[arg(long, default_value_t = 10.0)]
    pub gap: f64,
    /// The longest freeze, cut or stall, in seconds
    #[arg(long, default_value_t = 12.0)]
    pub longest: f64,
    /// The longest time without any nats-server, in seconds
    #[arg(long, default_value_t = 30.0)]
    pub longest_outage: f64,
    /// Minimum pause after a fault, in seconds; twice as long for nats-servers
    #[arg(long, default_value_t = 6.0)]
    pub rest: f64,
    /// Kinds of faults, such as `timer-kill`, or all of a part or action, such as `edge` or `freeze`; all by default
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub kinds: Vec<FaultKinds>,
    /// No faults
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
    /// Keep logs and stores of clean runs
    #[arg(long)]
    pub keep: bool,
}

impl Options {
    /// The duration of a run.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }

    /// The length of a minute.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// The time over which the pairs start.
    #[must_use]
    pub fn full_after(&self) -> Duration {
        FULL_AFTER.min(self.duration() / 4)
    }

    /// The number of pairs.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.calls + (self.calls * SPARE_PER_CENT).div_ceil(100)
    }

    /// The options of the fault schedule.
    #[must_use]
    pub fn schedule_options(&self) -> ScheduleOptions {
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
