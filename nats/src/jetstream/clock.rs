//! Time, as what waits and decides by it sees it: so that a simulation may be the one to tell it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::wire::time::Timestamp;

/// A process's clocks, and its dice for waits.
pub trait Clock: Debug + Send + Sync {
    /// The wall clock, which may be set.
    fn now(&self) -> Timestamp;

    /// The monotonic clock.
    fn instant(&self) -> Instant;

    /// Waits by the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Between half and all of `delay`, so that publishers that were cut off together do not come back together.
    fn jittered(&self, delay: Duration) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn jittered(&self, delay: Duration) -> Duration {
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_wait_is_half_of_it_at_least() {
        let second = Duration::from_secs(1);
        let waits: Vec<Duration> = (0..100).map(|_| SystemClock.jittered(second)).collect();
        assert!(
            waits.iter().all(|wait| (second / 2..=second).contains(wait)),
            "{waits:?}"
        );
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
