//! A point in time twice over: the monotonic clock decides, the wall clock is written down.

use std::time::{Duration, Instant};

use contract::Timestamp;

/// Now, by both clocks. A wall clock that is set while calls run must not end them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For measuring.
    pub instant: Instant,
    /// For the record.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: Timestamp::now(),
        }
    }

    /// How long after `earlier`; zero if it was before.
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }

    /// Later by so much.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self {
            instant: self.instant.checked_add(duration).unwrap_or(self.instant),
            wall: self.wall.plus(duration),
        }
    }
}
