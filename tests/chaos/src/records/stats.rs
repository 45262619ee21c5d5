//! The activity of every pair, counters for the output, and findings of the harness.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// The findings that are kept. Further ones are counted.
const MOST_FINDINGS: usize = 200;

/// The activity of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for connections, or between two calls.
    Idle,
    /// Requested, not accepted.
    Ringing,
    /// Accepted, not connected.
    Joining,
    /// Connected, as both parties know.
    Talking,
    /// Waiting until both parties know the end.
    Ending,
    /// No more calls.
    Done,
}

impl Activity {
    /// In the order of a call.
    pub const ALL: [Self; 6] = [
        Self::Idle,
        Self::Ringing,
        Self::Joining,
        Self::Talking,
        Self::Ending,
        Self::Done,
    ];
}

/// The statistics of a run. Clones share them.
#[derive(Debug, Clone)]
pub struct Stats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pairs: Vec<AtomicU8>,
    requested: AtomicU64,
    connected: AtomicU64,
    faults: AtomicU64,
    findings: Mutex<(Vec<String>, usize)>,
}

/// The number of pairs per activity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count([usize; Activity::ALL.len()]);

impl Stats {
    /// For a number of pairs.
    pub fn new(pairs: usize) -> Self {
        Self(Arc::new(Inner {
            pairs: (0..pairs).map(|_| AtomicU8::default()).collect(),
            requested: AtomicU64::default(),
            connected: AtomicU64::default(),
            faults: AtomicU64::default(),
            findings: Mutex::default(),
        }))
    }

    /// A pair changes its activity.
    pub fn set(&self, pair: usize, activity: Activity) {
        let counter = match activity {
            Activity::Ringing => Some(&self.0.requested),
            Activity::Talking => Some(&self.0.connected),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = self.0.pairs.get(pair) {
            place.store(activity as u8, Ordering::Relaxed);
        }
    }

    /// The number of pairs per activity.
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for pair in &self.0.pairs {
            if let Some(place) = count.0.get_mut(usize::from(pair.load(Ordering::Relaxed))) {
                *place += 1;
            }
        }
        count
    }

    /// Calls requested and calls connected so far.
    pub fn calls(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.0.requested), of(&self.0.connected))
    }

    /// Counts a fault, and returns its number.
    pub fn fault(&self) -> u64 {
        self.0.faults.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.0.faults.load(Ordering::Relaxed)
    }

    /// Adds a finding.
    pub fn finding(&self, what: String) {
        let mut findings = self.findings();
        if findings.0.len() < MOST_FINDINGS {
            findings.0.push(what);
        } else {
            findings.1 += 1;
        }
    }

    /// The kept findings, and the number of further ones.
    pub fn found(&self) -> (Vec<String>, usize) {
        self.findings().clone()
    }

    fn findings(&self) -> MutexGuard<'_, (Vec<String>, usize)> {
        self.0.findings.lock()
    }
}

impl Count {
    /// The number of pairs with an activity.
    pub fn of(self, activity: Activity) -> usize {
        self.0.get(usize::from(activity as u8)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>3} connected, {:>3} ringing, {:>3} joining, {:>3} ending, {:>3} idle",
            self.of(Activity::Talking),
            self.of(Activity::Ringing),
            self.of(Activity::Joining),
            self.of(Activity::Ending),
            self.of(Activity::Idle) + self.of(Activity::Done),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_by_activity() {
        let stats = Stats::new(3);
        for pair in [0, 1, 7] {
            stats.set(pair, Activity::Ringing);
        }
        stats.set(1, Activity::Talking);
        let count = stats.count();
        let of = [Activity::Idle, Activity::Ringing, Activity::Talking].map(|activity| count.of(activity));
        assert_eq!((of, stats.calls()), ([1, 1, 1], (3, 1)));
    }

    #[test]
    fn findings_beyond_the_limit_are_counted() {
        let stats = Stats::new(0);
        for number in 0..MOST_FINDINGS + 2 {
            stats.clone().finding(number.to_string());
        }
        let (kept, more) = stats.found();
        assert_eq!((kept.len(), more), (MOST_FINDINGS, 2));
    }
}
