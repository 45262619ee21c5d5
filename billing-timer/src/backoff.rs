//! Exponential backoff with jitter.

use std::time::Duration;

use contract::jetstream::clock::Clock;

const MIN: Duration = Duration::from_millis(50);
/// Bounded so that a retry follows soon after a leader election, which takes seconds.
const MAX: Duration = Duration::from_millis(500);

/// The delay before the next attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Resets after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure.
    pub(crate) fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Zero without a failure, else between half and all of a doubling delay, so that instances that lost the connection
    /// together do not retry together.
    pub(crate) fn delay(self, clock: &dyn Clock) -> Duration {
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(earlier) => clock.jittered(MIN.saturating_mul(1 << earlier.min(16)).min(MAX)),
        }
    }

    /// Counts a failure and waits.
    pub(crate) async fn pause(&mut self, clock: &dyn Clock) {
        self.fail();
        clock.sleep(self.delay(clock)).await;
    }
}

#[cfg(test)]
mod tests {
    use contract::jetstream::clock::SystemClock;

    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_reset() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.delay(&SystemClock), Duration::ZERO);
        backoff.fail();
        assert!(backoff.delay(&SystemClock) <= MIN && backoff.delay(&SystemClock) >= MIN / 2);
        (0..100).for_each(|_| backoff.fail());
        assert!(backoff.delay(&SystemClock) <= MAX && backoff.delay(&SystemClock) >= MAX / 2);
        backoff.reset();
        assert_eq!(backoff.delay(&SystemClock), Duration::ZERO);
    }
}
