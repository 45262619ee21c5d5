//! CPU time of each process across restarts, from /proc.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use callpulse_tests::servers::child::cpu_ticks;

/// The unit of [`cpu_ticks`].
const TICK: Duration = Duration::from_millis(10);

/// CPU time by name.
#[derive(Debug)]
pub struct CpuUsage {
    since: Instant,
    /// By name: the last process, its CPU time at the last sample, and the sum of all processes.
    taken: BTreeMap<String, (u32, Duration, Duration)>,
}

impl CpuUsage {
    /// Starts now.
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            taken: BTreeMap::new(),
        }
    }

    /// Samples the process that has this name now.
    pub fn sample(&mut self, name: &str, pid: u32) {
        let Ok(now) = cpu_ticks(pid) else { return };
        let now = TICK * now;
        let (process, last, before) = self.taken.entry(name.to_owned()).or_insert((pid, now, Duration::ZERO));
        if *process != pid {
            (*process, *last) = (pid, Duration::ZERO);
        }
        *before += now.saturating_sub(*last);
        *last = now;
    }

    /// Per cent of one core, by name.
    pub fn per_cent(&self) -> Vec<(String, f64)> {
        let elapsed = self.since.elapsed().as_secs_f64().max(0.001);
        let share = |(name, (_, _, taken)): (&String, &(u32, Duration, Duration))| {
            (name.clone(), taken.as_secs_f64() / elapsed * 100.0)
        };
        self.taken.iter().map(share).collect()
    }
}

impl Default for CpuUsage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for CpuUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.per_cent();
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        write!(f, "{sum:.0} % of one core (")?;
        for (place, (name, share)) in shares.iter().enumerate() {
            write!(f, "{}{name} {share:.0}", if place == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_process_is_counted() {
        let mut usage = CpuUsage::new();
        usage.sample("self", std::process::id());
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        usage.sample("self", std::process::id());
        let shares = usage.per_cent();
        assert!(shares[0].1 > 5.0, "{shares:?}");
        usage.sample("unknown", 0);
        assert_eq!(usage.per_cent().len(), 1);
    }
}
