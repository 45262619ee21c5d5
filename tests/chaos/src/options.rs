//! The command line, and derived values.

use std::time::Duration;

use clap::Parser;

use crate::faults::fault_schedule::{FaultKind, FaultKinds, ScheduleOptions};
use callpulse_tests::servers::wall_clock::WallClock;

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
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub runs: u32,
    /// Duration of each run in seconds, without start and settlement
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: u64,
    /// Target of simultaneously connected calls
    #[arg(long, default_value_t = 200, value_parser = at_most::<10_000>)]
    pub calls: usize,
    /// Mean duration of a conversation, in seconds
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub talk: u64,
    /// Approximate time between faults, in seconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub gap: f64,
    /// The longest freeze, cut or stall, in seconds
    #[arg(long, default_value_t = 12.0, value_parser = seconds)]
    pub longest: f64,
    /// The longest time without any nats-server, in seconds
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    pub longest_outage: f64,
    /// Minimum pause after a fault, in seconds; twice as long for nats-servers
    #[arg(long, default_value_t = 6.0, value_parser = pause)]
    pub rest: f64,
    /// Kinds of faults, such as `timer-kill`, or all of a part or action, such as `edge` or `freeze`; all by default
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub kinds: Vec<FaultKinds>,
    /// No faults
    #[arg(long)]
    pub no_faults: bool,
    /// No faults, but an upgrade: every service is scaled from one process to three, every process and nats-server is restarted in
    /// turn, and every service is scaled back. It must not end a call. The duration follows from it
    #[arg(long, conflicts_with_all = ["no_faults", "kinds", "single", "workers", "edges", "timers", "duration"])]
    pub upgrade: bool,
    /// media-worker processes
    #[arg(long, default_value_t = 2, value_parser = at_most::<64>)]
    pub workers: usize,
    /// ws-edge processes
    #[arg(long, default_value_t = 2, value_parser = at_most::<64>)]
    pub edges: usize,
    /// billing-timer processes
    #[arg(long, default_value_t = 3, value_parser = at_most::<64>)]
    pub timers: usize,
    /// One nats-server instead of a cluster of three
    #[arg(long)]
    pub single: bool,
    /// Length of a minute, in milliseconds
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub interval_ms: u64,
    /// Keep logs and stores of clean runs
    #[arg(long)]
    pub keep: bool,
}

impl Options {
    /// The duration of a run.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }

    /// The processes of each service at the start: media-workers, edges, billing-timers.
    pub fn processes(&self) -> [usize; 3] {
        if self.upgrade {
            [1; 3]
        } else {
            [self.workers, self.edges, self.timers]
        }
    }

    /// The length of a minute.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// The time over which the pairs start.
    pub fn full_after(&self) -> Duration {
        FULL_AFTER.min(self.duration() / 4)
    }

    /// The number of pairs.
    pub fn pairs(&self) -> usize {
        self.calls + (self.calls * SPARE_PER_CENT).div_ceil(100)
    }

    /// The options of the fault schedule.
    pub fn schedule_options(&self) -> ScheduleOptions {
        let chosen: Vec<FaultKind> = self.kinds.iter().flat_map(|kinds| kinds.0.clone()).collect();
        let mut kinds: Vec<FaultKind> = FaultKind::all();
        let can_step = WallClock::is_available();
        kinds.retain(|kind| !self.no_faults && !self.upgrade && (chosen.is_empty() || chosen.contains(kind)));
        kinds.retain(|kind| can_step || !kind.is_clock_step());
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

/// A number from 1 to `MAX`.
fn at_most<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("is a number from 1 to {MAX}")),
    }
}

/// A pause, which may be none.
fn pause(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(0.0) => Ok(0.0),
        _ => seconds(text),
    }
}

/// Seconds, up to a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("is a number of seconds from 0.1 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_without_bounds() {
        for (option, values) in [
            ("--duration", &["0", "18446744073709551615", "-1"][..]),
            ("--calls", &["0", "18446744073709551615"]),
            ("--talk", &["0", "18446744073709551615"]),
            ("--gap", &["0", "-1", "NaN", "inf", "1e300"]),
            ("--longest", &["0", "-1", "NaN", "inf", "1e300"]),
            ("--longest-outage", &["0", "-1", "NaN", "inf", "1e300"]),
            ("--rest", &["-1", "NaN", "inf", "1e300"]),
            ("--workers", &["0", "18446744073709551615"]),
            ("--edges", &["0", "65"]),
            ("--timers", &["0", "65"]),
            ("--interval-ms", &["0", "18446744073709551615"]),
            ("--runs", &["0", "4294967295"]),
        ] {
            for value in values {
                assert!(
                    Options::try_parse_from(["chaos", &format!("{option}={value}")]).is_err(),
                    "{option}={value}"
                );
            }
        }
        assert!(
            !Options::try_parse_from(["chaos"])
                .unwrap()
                .schedule_options()
                .kinds
                .is_empty()
        );
    }
}
