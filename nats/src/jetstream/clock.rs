//! The port to clocks and waits, which a simulation implements with simulated time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::wire::time::Timestamp;

/// The clocks of a process, and random waits.
pub trait Clock: Debug + Send + Sync {
    /// The wall clock, which may step.
    fn now(&self) -> Timestamp;

    /// The monotonic clock.
    fn instant(&self) -> Instant;

    /// Waits, measured by the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// A random wait between half of `delay` and `delay`, so that publishers that failed together do not retry together.
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
    fn a_jittered_wait_is_between_half_of_the_delay_and_the_delay() {
        let second = Duration::from_secs(1);
        let waits: Vec<Duration> = (0..100).map(|_| SystemClock.jittered(second)).collect();
        assert!(
            waits.iter().all(|wait| (second / 2..=second).contains(wait)),
            "{waits:?}"
        );
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
