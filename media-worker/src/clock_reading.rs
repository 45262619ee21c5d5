//! One instant on two clocks: the monotonic clock measures durations, the wall clock supplies the times in facts.

use std::time::{Duration, Instant};

use contract::Timestamp;

/// An instant on both clocks. Decisions use `instant` only, so setting the wall clock cannot end a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Monotonic clock.
    pub instant: Instant,
    /// Wall clock.
    pub wall: Timestamp,
}

impl ClockReading {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: Timestamp::now(),
        }
    }

    /// Monotonic time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }

    /// This reading plus `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self {
            instant: self.instant.checked_add(duration).unwrap_or(self.instant),
            wall: self.wall.plus(duration),
        }
    }

    /// This reading minus `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self {
            instant: self.instant.checked_sub(duration).unwrap_or(self.instant),
            wall: self.wall.minus(duration),
        }
    }

    /// The wall-clock time of `at` if the clock had not been set since this reading.
    pub fn time_of(self, at: Self) -> Timestamp {
        match at.instant.checked_duration_since(self.instant) {
            Some(after) => self.wall.plus(after),
            None => self.wall.minus(self.since(at)),
        }
    }

    /// By how much the wall clock ran ahead of the monotonic clock from this reading to `later`, in milliseconds.
    pub fn step_until(self, later: Self) -> i64 {
        later.wall.as_millis() - self.time_of(later).as_millis()
    }
}
