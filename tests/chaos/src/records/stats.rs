//! Where every pair stands, for whoever prints it; and what was found on the way.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// Findings that are kept; more are counted.
const MOST_FINDINGS: usize = 200;

/// What a pair does at this timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for connections, or between two calls.
    Idle,
    /// Requested, not accepted.
    Ringing,
    /// Accepted, not connected.
    Joining,
    /// Both parties know that they are connected.
    Talking,
    /// Waiting for the end to be known.
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

/// The stats. Clones share it.
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

/// How many pairs do what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count([usize; Activity::ALL.len()]);

impl Stats {
    /// For so many pairs.
    #[must_use]
    pub fn new(pairs: usize) -> Self {
        Self(Arc::new(Inner {
            pairs: (0..pairs).map(|_| AtomicU8::default()).collect(),
            requested: AtomicU64::default(),
            connected: AtomicU64::default(),
            faults: AtomicU64::default(),
            findings: Mutex::default(),
        }))
    }

    /// A pair does something else now.
    pub fn set(&self, pair: usize, doing: Activity) {
        let counter = match doing {
            Activity::Ringing => Some(&self.0.requested),
            Activity::Talking => Some(&self.0.connected),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = self.0.pairs.get(pair) {
            place.store(doing as u8, Ordering::Relaxed);
        }
    }

    /// How many do what.
    #[must_use]
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
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.0.requested), of(&self.0.connected))
    }

    /// Another fault strikes: the number of faults with it.
    pub fn fault(&self) -> u64 {
        self.0.faults.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Faults so far.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.0.faults.load(Ordering::Relaxed)
    }

    /// Something that must not happen.
    pub fn finding(&self, what: String) {
        let mut findings = self.findings();
        if findings.0.len() < MOST_FINDINGS {
            findings.0.push(what);
        } else {
            findings.1 += 1;
        }
    }

    /// All of it, and how many more there were.
    #[must_use]
    pub fn found(&self) -> (Vec<String>, usize) {
        self.findings().clone()
    }

    fn findings(&self) -> MutexGuard<'_, (Vec<String>, usize)> {
        self.0.findings.lock()
    }
}

impl Count {
    /// How many do that.
    #[must_use]
    pub fn of(self, doing: Activity) -> usize {
        self.0.get(usize::from(doing as u8)).copied().unwrap_or_default()
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
    fn counts_who_does_what() {
        let stats = Stats::new(3);
        for pair in [0, 1, 7] {
            stats.set(pair, Activity::Ringing);
        }
        stats.set(1, Activity::Talking);
        let count = stats.count();
        let of = [Activity::Idle, Activity::Ringing, Activity::Talking].map(|doing| count.of(doing));
        assert_eq!((of, stats.calls()), ([1, 1, 1], (3, 1)));
    }

    #[test]
    fn findings_are_bounded_and_none_goes_uncounted() {
        let stats = Stats::new(0);
        for number in 0..MOST_FINDINGS + 2 {
            stats.clone().finding(number.to_string());
        }
        let (kept, more) = stats.found();
        assert_eq!((kept.len(), more), (MOST_FINDINGS, 2));
    }
}
