//! The last stored tick of a call gives the number of the next tick and the length of the call's minutes.
//!
//! A call keeps its interval. The setting applies until the first tick is stored; afterwards the interval is derived from the
//! stored tick ((`at` − `connectedAt`) ÷ `minute`). A changed setting therefore moves no minute of a running call, and
//! instances whose settings differ during a roll-out agree on each call.

use contract::Timestamp;
use contract::wire::fact::Tick;
use thiserror::Error;

use super::terms::MIN_INTERVAL_MS;

/// The last stored tick of a call, without the call: one is kept for every active call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastTick {
    /// Number of the complete minute: 1, 2, …
    pub minute: u32,
    /// When it was due.
    pub at: Timestamp,
    /// When the call was connected.
    pub connected_at: Timestamp,
}

impl LastTick {
    /// Of a tick that is stored.
    pub fn new(tick: &Tick) -> Self {
        Self {
            minute: tick.minute,
            at: tick.at,
            connected_at: tick.connected_at,
        }
    }

    /// Whether it has this content.
    pub fn is(&self, tick: &Tick) -> bool {
        *self == Self::new(tick)
    }
}

/// The stored ticks contradict the call's entry. The call's facts need manual inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// They have another `connectedAt`.
    #[error("ticks have connectedAt {tick}, the call has {call}")]
    ConnectedAt {
        /// `connectedAt` of the tick.
        tick: Timestamp,
        /// `connectedAt` of the call's entry.
        call: Timestamp,
    },
    /// The tick's time is no multiple of an interval.
    #[error("tick {minute} is {span_ms} ms after connectedAt, which is no whole number of intervals")]
    Interval {
        /// The tick's number.
        minute: u32,
        /// From `connectedAt` to `at`, in milliseconds.
        span_ms: u64,
    },
}

/// The number of the tick after `last`.
pub fn next_minute(last: Option<&LastTick>) -> u32 {
    last.map_or(0, |last| last.minute).saturating_add(1)
}

/// The length of the call's minutes in milliseconds; `configured` if the call has no tick.
///
/// # Errors
/// [`Contradiction`]: the call gets no more ticks.
pub fn interval_ms(last: Option<&LastTick>, connected_at: Timestamp, configured: u64) -> Result<u64, Contradiction> {
    let Some(last) = last else {
        return Ok(configured);
    };
    if last.connected_at != connected_at {
        return Err(Contradiction::ConnectedAt {
            tick: last.connected_at,
            call: connected_at,
        });
    }
    let (minute, span_ms) = (last.minute, last.at.millis_since(connected_at));
    match span_ms.checked_div(u64::from(minute)) {
        Some(interval) if interval >= MIN_INTERVAL_MS && interval.checked_mul(u64::from(minute)) == Some(span_ms) => {
            Ok(interval)
        }
        _ => Err(Contradiction::Interval { minute, span_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, tick};

    fn last(minute: u32, due_ms: i64) -> LastTick {
        LastTick::new(&tick("c", minute, 0, due_ms))
    }

    #[test]
    fn the_next_minute_follows_the_last_tick() {
        assert_eq!(next_minute(None), 1);
        assert_eq!(next_minute(Some(&last(3, 180_000))), 4);
    }

    #[test]
    fn a_call_keeps_the_interval_of_its_stored_ticks() {
        assert_eq!(interval_ms(None, at(0), 1_000), Ok(1_000));
        assert_eq!(interval_ms(Some(&last(3, 180_000)), at(0), 1_000), Ok(60_000));
    }

    #[test]
    fn ticks_that_contradict_the_call_are_reported() {
        let contradiction = |last: LastTick, connected| interval_ms(Some(&last), at(connected), 60_000).unwrap_err();
        assert_eq!(
            contradiction(last(1, 60_000), 5),
            Contradiction::ConnectedAt {
                tick: at(0),
                call: at(5)
            }
        );
        for (minute, due) in [(0, 0), (0, 60_000), (2, 60_001), (1, 99), (1, -60_000)] {
            assert!(
                matches!(contradiction(last(minute, due), 0), Contradiction::Interval { .. }),
                "{minute} at {due}"
            );
        }
    }
}
