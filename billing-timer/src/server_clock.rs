//! The clock of the NATS server, as this instance sees it: a call's ticks wait for it, and not for the wall clock of this machine.
//!
//! The leader of the stream `CALLS` stamps what it stores. The task `leader_time` asks it for its time: a request without a write, so no
//! disk delays the answer. Its clock is at least the time in the answer plus what has passed since the answer arrived, by the
//! monotonic clock of this machine. The latest such bound of the recent answers counts, so no tick is early, and a slow answer makes
//! none late. Another leader has another clock: its first answer replaces all earlier ones. So does an answer that contradicts them,
//! because then the leader's clock has stepped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Timestamp;
use contract::jetstream::fact_stream::LeaderTime;
use parking_lot::Mutex;

/// Answers that count.
const MAX_SAMPLES: usize = 8;
/// The share by which two clocks may drift apart: each is slewed by at most 500 ppm (adjtimex(2)).
const MAX_DRIFT: u32 = 1_000;

/// Shared by the task that asks for the time, and the ticker.
#[derive(Debug, Clone, Default)]
pub struct ServerClock {
    answers: Arc<Mutex<Answers>>,
}

#[derive(Debug, Default)]
struct Answers {
    leader: Option<String>,
    samples: VecDeque<Sample>,
}

/// The leader's time between two moments of this machine.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Timestamp,
    sent: Instant,
    received: Instant,
}

impl ServerClock {
    /// An answer of the leader.
    pub(crate) fn sample(&self, LeaderTime { at, leader }: LeaderTime, sent: Instant, received: Instant) {
        let sample = Sample { at, sent, received };
        let mut answers = self.answers.lock();
        let contradicts = |other: &Sample| {
            // Time stamps are cut to milliseconds.
            let slack = Duration::from_millis(2);
            other.at_least(received) > sample.at_most(received).plus(slack)
                || sample.at_least(received) > other.at_most(received).plus(slack)
        };
        if answers.leader != leader {
            answers.samples.clear();
            answers.leader = leader;
        } else if answers.samples.iter().any(contradicts) {
            tracing::warn!("the clock of the NATS server has stepped: ticks follow it");
            answers.samples.clear();
        }
        if answers.samples.len() >= MAX_SAMPLES {
            answers.samples.pop_front();
        }
        answers.samples.push_back(sample);
    }

    /// The server's time at `instant`: not later than it is. None before the first answer.
    pub(crate) fn at(&self, instant: Instant) -> Option<Timestamp> {
        let answers = self.answers.lock();
        answers.samples.iter().map(|sample| sample.at_least(instant)).max()
    }
}

impl Sample {
    fn at_least(&self, instant: Instant) -> Timestamp {
        match instant.checked_duration_since(self.received) {
            Some(passed) => self.at.plus(passed - passed / MAX_DRIFT),
            None => self.at.minus(self.received - instant),
        }
    }

    fn at_most(&self, instant: Instant) -> Timestamp {
        let passed = instant.saturating_duration_since(self.sent);
        self.at.plus(passed + passed / MAX_DRIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    struct Answering {
        clock: ServerClock,
        zero: Instant,
    }

    impl Answering {
        fn new() -> Self {
            let (clock, zero) = (ServerClock::default(), Instant::now());
            Self { clock, zero }
        }

        fn after(&self, millis: u64) -> Instant {
            self.zero + Duration::from_millis(millis)
        }

        fn answer(&self, leader: &str, millis: i64, sent: u64, received: u64) {
            let time = LeaderTime {
                at: at(millis),
                leader: Some(leader.to_owned()),
            };
            self.clock.sample(time, self.after(sent), self.after(received));
        }

        fn at(&self, millis: u64) -> Option<Timestamp> {
            self.clock.at(self.after(millis))
        }
    }

    #[test]
    fn the_closest_bound_counts_and_a_step_of_the_server_is_followed() {
        let server = Answering::new();
        assert_eq!(server.at(0), None);
        // Answered at 10, received at 400.
        server.answer("a", 1_010, 0, 400);
        assert_eq!((server.at(400), server.at(300)), (Some(at(1_010)), Some(at(910))));
        server.answer("a", 2_001, 1_000, 1_002);
        // Four seconds later, less the drift.
        assert_eq!(server.at(5_002), Some(at(5_997)));
        // A slow answer makes nothing worse.
        server.answer("a", 3_001, 2_000, 2_900);
        assert_eq!(server.at(5_002), Some(at(5_997)));
        for (stepped, now) in [(33_000, 3_003), (3_604_000, 4_003), (5_000, 5_003)] {
            server.answer("a", stepped, now - 3, now);
            assert_eq!(server.at(now), Some(at(stepped)));
        }
    }

    #[test]
    fn another_leader_has_another_clock() {
        let server = Answering::new();
        server.answer("a", 1_001, 0, 2);
        // Its clock is behind by 40 ms. Its slow answer contradicts nothing.
        server.answer("b", 1_965, 1_000, 1_060);
        assert_eq!(server.at(1_060), Some(at(1_965)));
        server.answer("a", 3_001, 2_000, 2_002);
        assert_eq!(server.at(2_002), Some(at(3_001)));
    }

    #[test]
    fn clocks_that_drift_apart_contradict_nothing_and_make_no_tick_early() {
        let server = Answering::new();
        // The server's clock is slow by 0.9 ms in a second.
        for second in 0..60u32 {
            let (now, servers) = (f64::from(second) * 1_000.0, f64::from(second) * 999.1);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small and positive"
            )]
            server.answer("a", servers as i64, now as u64, now as u64 + 1);
            let next = server.at(u64::from(second) * 1_000 + 1_000).unwrap();
            assert!(next.as_millis() as f64 <= servers + 1_000.0 * 0.999_1 + 1.0, "{next}");
        }
        assert_eq!(server.clock.answers.lock().samples.len(), MAX_SAMPLES);
    }
}
