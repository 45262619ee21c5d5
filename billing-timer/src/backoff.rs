//! Growing waits between attempts.

use std::time::Duration;

use contract::jetstream::clock::Clock;

const MIN: Duration = Duration::from_millis(50);
/// An election lasts for seconds, and what waits for it shall not wait for much longer.
const MAX: Duration = Duration::from_millis(500);

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next failure is the first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed once more.
    pub(crate) fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// The wait that is due: none if nothing failed, else from half to all of a doubling time, so that instances that were
    /// cut off together do not come back together.
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
    fn waits_grow_up_to_a_limit_and_start_anew() {
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
