//! The clock of the NATS server, as this instance sees it: a call's ticks wait for it, and not for the wall clock of this machine.
//!
//! Each heartbeat of this instance is stored with the server's time stamp, somewhere between sending it and its acknowledgement, both
//! by the monotonic clock of this machine. The server's clock is therefore at least the time stamp plus what has passed since the
//! acknowledgement. The latest such bound of the recent heartbeats counts, so no tick is early, and a slow acknowledgement makes none
//! late. If the bounds contradict each other, the server's clock has stepped, and the newest one counts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Timestamp;
use parking_lot::Mutex;

/// Heartbeats that count. Clocks that are slewed drift by a few milliseconds within so many.
const MAX_SAMPLES: usize = 8;

/// Shared by the lease manager, which takes the samples, and the ticker.
#[derive(Debug, Clone, Default)]
pub struct ServerClock {
    samples: Arc<Mutex<VecDeque<Sample>>>,
}

/// A message that this instance has stored.
#[derive(Debug, Clone, Copy)]
struct Sample {
    stored_at: Timestamp,
    sent: Instant,
    acknowledged: Instant,
}

impl ServerClock {
    /// A message was stored at `stored_at`, by the server's clock.
    pub(crate) fn sample(&self, stored_at: Timestamp, sent: Instant, acknowledged: Instant) {
        let sample = Sample {
            stored_at,
            sent,
            acknowledged,
        };
        let mut samples = self.samples.lock();
        let contradicts = |other: &Sample| {
            // Time stamps are cut to milliseconds.
            let slack = Duration::from_millis(2);
            other.at_least(acknowledged) > sample.at_most(acknowledged).plus(slack)
                || sample.at_least(acknowledged) > other.at_most(acknowledged).plus(slack)
        };
        if samples.iter().any(contradicts) {
            tracing::warn!("the clock of the NATS server has stepped: ticks follow it");
            samples.clear();
        }
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The server's time at `instant`: not later than it is. None before the first heartbeat.
    pub(crate) fn at(&self, instant: Instant) -> Option<Timestamp> {
        let samples = self.samples.lock();
        samples.iter().map(|sample| sample.at_least(instant)).max()
    }
}

impl Sample {
    fn at_least(&self, instant: Instant) -> Timestamp {
        since(self.stored_at, self.acknowledged, instant)
    }

    fn at_most(&self, instant: Instant) -> Timestamp {
        since(self.stored_at, self.sent, instant)
    }
}

/// The time at `instant` if it was `then` at `at`.
fn since(then: Timestamp, at: Instant, instant: Instant) -> Timestamp {
    match instant.checked_duration_since(at) {
        Some(passed) => then.plus(passed),
        None => {
            let before = i64::try_from(at.duration_since(instant).as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millis(then.as_millis().saturating_sub(before)).unwrap_or(then)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn the_closest_bound_counts_and_a_step_of_the_server_is_followed() {
        let (clock, zero) = (ServerClock::default(), Instant::now());
        let after = |millis| zero + Duration::from_millis(millis);
        assert_eq!(clock.at(zero), None);
        // Stored at 10, acknowledged at 400.
        clock.sample(at(1_010), after(0), after(400));
        assert_eq!(clock.at(after(400)), Some(at(1_010)));
        clock.sample(at(2_001), after(1_000), after(1_002));
        assert_eq!(clock.at(after(5_002)), Some(at(6_001)));
        // A slow acknowledgement makes nothing worse.
        clock.sample(at(3_001), after(2_000), after(2_900));
        assert_eq!(clock.at(after(5_002)), Some(at(6_001)));
        for (stepped, now) in [(33_000, 3_003), (3_604_000, 4_003), (5_000, 5_003)] {
            clock.sample(at(stepped), after(now - 3), after(now));
            assert_eq!(clock.at(after(now + 10)), Some(at(stepped + 10)));
        }
    }
}
