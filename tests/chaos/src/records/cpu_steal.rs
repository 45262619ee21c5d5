//! When the machine had no processor for the run: what its hypervisor gave to others meanwhile, as `steal` of /proc/stat.
//! Source: proc_stat(5).
//!
//! What waits for a processor is overdue as well, and recovery from nothing that was done to the services. Where the kernel
//! counts nothing (no hypervisor, another system), nothing is ever starved.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::records::run_log::RunLog;

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks that are compared: the last with the first.
const LOOKS: usize = 4;
/// With so much of their time given to others, the processors are not the run's any more.
const STARVED_PER_CENT: u64 = 10;

/// What /proc/stat has counted since the machine started, in its ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processors {
    stolen: u64,
    all: u64,
}

/// Notes in the run_log when too much is taken away, until it is dropped.
pub async fn watch(run_log: RunLog) {
    let mut looks: VecDeque<(SystemTime, Processors)> = VecDeque::with_capacity(LOOKS);
    loop {
        let Some(now) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(read) else {
            return;
        };
        if looks.len() == LOOKS {
            looks.pop_front();
        }
        looks.push_back((SystemTime::now(), now));
        if let (Some((from, first)), Some((until, last))) = (looks.front(), looks.back())
            && is_starved(*first, *last)
        {
            run_log.starved(*from, *until);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The sum of all processors: user, nice, system, idle, iowait, irq, softirq, steal. What guests take is counted as user's.
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
    fn a_tenth_is_too_much() {
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
