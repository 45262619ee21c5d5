//! CPU starvation: the time that the hypervisor gave to others, as `steal` of /proc/stat (proc_stat(5)).
//!
//! Starvation delays the services without a fault. Without a hypervisor, `steal` is 0.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::records::run_log::RunLog;

/// The sampling interval.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// The samples of a window, of which the last is compared with the first.
const SAMPLES: usize = 4;
/// The share of stolen time from which the CPU counts as starved.
const STARVED_PER_CENT: u64 = 10;

/// The counters of /proc/stat, in ticks since the start of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processors {
    stolen: u64,
    all: u64,
}

/// Records starvation in the run log until it is dropped.
pub async fn watch(run_log: RunLog) {
    let mut samples: VecDeque<(SystemTime, Processors)> = VecDeque::with_capacity(SAMPLES);
    loop {
        let Some(now) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(read) else {
            return;
        };
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back((SystemTime::now(), now));
        if let (Some((from, first)), Some((until, last))) = (samples.front(), samples.back())
            && is_starved(*first, *last)
        {
            run_log.starved(*from, *until);
        }
        sleep(SAMPLE_EVERY).await;
    }
}

/// The sum of all processors: user, nice, system, idle, iowait, irq, softirq, steal. The time of guests is part of user.
fn read(stat: &str) -> Option<Processors> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Option<Vec<u64>> = line
        .split_whitespace()
        .take(8)
        .map(|field| field.parse().ok())
        .collect();
    let fields = fields?;
    Some(Processors {
        stolen: *fields.get(7)?,
        all: fields.iter().sum(),
    })
}

fn is_starved(first: Processors, last: Processors) -> bool {
    let stolen = last.stolen.saturating_sub(first.stolen);
    let all = last.all.saturating_sub(first.all);
    all > 0 && stolen * 100 >= all * STARVED_PER_CENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_stolen_time_is_starvation() {
        let stat = |user, steal| format!("cpu  {user} 0 0 50 0 0 0 {steal} 7 0\ncpu0 1 0 0 0 0 0 0 1 0 0\n");
        let first = read(&stat(50, 0)).unwrap();
        assert_eq!(first, Processors { stolen: 0, all: 100 });
        let after = |user, steal| is_starved(first, read(&stat(50 + user, steal)).unwrap());
        assert!(after(90, 10));
        assert!(!after(91, 9));
        assert!(!after(0, 0));
        assert_eq!(read("cpu  1 2 3\n"), None);
        assert_eq!(read("intr 1\n"), None);
    }
}
