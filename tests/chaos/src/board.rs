//! Where every slot stands, for whoever prints it; and what was found on the way.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Findings that are kept; more are counted.
const MOST_FINDINGS: usize = 200;

/// What a slot does at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
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

impl Doing {
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

/// The board. Clones share it.
#[derive(Debug, Clone)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: Vec<AtomicU8>,
    requested: AtomicU64,
    connected: AtomicU64,
    faults: AtomicU64,
    findings: Mutex<(Vec<String>, usize)>,
}

/// How many slots do what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count([usize; Doing::ALL.len()]);

impl Board {
    /// For so many slots.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Inner {
            slots: (0..slots).map(|_| AtomicU8::default()).collect(),
            requested: AtomicU64::default(),
            connected: AtomicU64::default(),
            faults: AtomicU64::default(),
            findings: Mutex::default(),
        }))
    }

    /// A slot does something else now.
    pub fn set(&self, slot: usize, doing: Doing) {
        let counter = match doing {
            Doing::Ringing => Some(&self.0.requested),
            Doing::Talking => Some(&self.0.connected),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = self.0.slots.get(slot) {
            place.store(doing as u8, Ordering::Relaxed);
        }
    }

    /// How many do what.
    #[must_use]
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for slot in &self.0.slots {
            if let Some(place) = count.0.get_mut(usize::from(slot.load(Ordering::Relaxed))) {
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
        self.0.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    /// How many do that.
    #[must_use]
    pub fn of(self, doing: Doing) -> usize {
        self.0.get(usize::from(doing as u8)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>3} connected, {:>3} ringing, {:>3} joining, {:>3} ending, {:>3} idle",
            self.of(Doing::Talking),
            self.of(Doing::Ringing),
            self.of(Doing::Joining),
            self.of(Doing::Ending),
            self.of(Doing::Idle) + self.of(Doing::Done),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_who_does_what() {
        let board = Board::new(3);
        for slot in [0, 1, 7] {
            board.set(slot, Doing::Ringing);
        }
        board.set(1, Doing::Talking);
        let count = board.count();
        let of = [Doing::Idle, Doing::Ringing, Doing::Talking].map(|doing| count.of(doing));
        assert_eq!((of, board.calls()), ([1, 1, 1], (3, 1)));
    }

    #[test]
    fn findings_are_bounded_and_none_goes_uncounted() {
        let board = Board::new(0);
        for number in 0..MOST_FINDINGS + 2 {
            board.clone().finding(number.to_string());
        }
        let (kept, more) = board.found();
        assert_eq!((kept.len(), more), (MOST_FINDINGS, 2));
    }
}
