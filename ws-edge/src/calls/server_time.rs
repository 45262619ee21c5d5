//! The time by the clock of nats-server, as far as heartbeats tell it.

use std::time::{Duration, Instant};

use contract::Timestamp;

/// How long a heartbeat bounds the server's time, at least. A server's clock that was set back is followed after twice that.
const BOUND_WINDOW: Duration = Duration::from_secs(30);

/// The time by the server's clock, from the times at which it stored heartbeats. Each is a lower bound, because a heartbeat may arrive
/// late: after an outage of NATS by all of it. The latest bound of this window and of the one before counts.
#[derive(Debug, Default)]
pub(super) struct ServerTime {
    opened: Option<Instant>,
    latest: Option<Bound>,
    latest_before: Option<Bound>,
}

/// The server's time was at least this at an instant of this machine.
#[derive(Debug, Clone, Copy)]
struct Bound {
    at: Timestamp,
    arrived: Instant,
}

impl Bound {
    fn at(&self, instant: Instant) -> Timestamp {
        self.at.plus(instant.saturating_duration_since(self.arrived))
    }
}

impl ServerTime {
    /// A heartbeat that was stored `at` arrived here.
    pub(super) fn stored(&mut self, at: Timestamp, arrived: Instant) {
        if self
            .opened
            .is_none_or(|opened| arrived.saturating_duration_since(opened) >= BOUND_WINDOW)
        {
            self.opened = Some(arrived);
            self.latest_before = self.latest.take();
        }
        if self.latest.is_none_or(|latest| latest.at(arrived) < at) {
            self.latest = Some(Bound { at, arrived });
        }
    }

    /// The time at an instant of this machine; none before the first heartbeat.
    pub(super) fn at(&self, instant: Instant) -> Option<Timestamp> {
        let bounds = [self.latest, self.latest_before].into_iter().flatten();
        bounds.map(|bound| bound.at(instant)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_arrives_late_does_not_put_the_time_back() {
        let (zero, mut time) = (Instant::now(), ServerTime::default());
        let after = |seconds| zero + Duration::from_secs(seconds);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000).unwrap();
        assert_eq!(time.at(zero), None);
        time.stored(at(100), after(0));
        // Stored a second later, and received after an outage of a minute.
        time.stored(at(101), after(60));
        assert_eq!(time.at(after(61)), Some(at(161)));
        // The server's clock is 10 s behind from now on.
        for heartbeat in 61..=130u32 {
            time.stored(at(i64::from(heartbeat) + 90), after(heartbeat.into()));
        }
        assert_eq!(time.at(after(130)), Some(at(220)));
    }
}
