//! What is stored of a call's ticks: the last one tells the number of the next, and the length of the call's minutes.
//!
//! A call keeps the interval that it began with. The setting counts until its first tick is stored; from then on the
//! interval is what that tick says (`at` − `connectedAt`, by `minute`), so changing the setting while calls run moves no
//! minute of a call that has one, and instances that differ for the length of a roll-out agree on each call.

use contract::Timestamp;
use contract::wire::fact::Tick;
use thiserror::Error;

use super::terms::MIN_INTERVAL_MS;

/// The last stored tick of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTick {
    /// What it says.
    pub tick: Tick,
    /// Its sequence in the stream.
    pub sequence: u64,
}

/// The stored ticks speak of another call than the book does: a person must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// They count from another moment.
    #[error("ticks count from {tick}, the call was connected at {call}")]
    ConnectedAt {
        /// As the tick says.
        tick: Timestamp,
        /// As the book says.
        call: Timestamp,
    },
    /// Number and time of the tick give no interval.
    #[error("tick {minute} is {span_ms} ms after the call's beginning, which is no whole interval")]
    Interval {
        /// The tick's number.
        minute: u32,
        /// From `connectedAt` to `at`.
        span_ms: u64,
    },
}

/// The number of the tick after `last`.
pub fn next_minute(last: Option<&LastTick>) -> u32 {
    last.map_or(0, |last| last.tick.minute).saturating_add(1)
}

/// The length of the call's minutes, in milliseconds; `configured` while it has no tick.
///
/// # Errors
/// [`Contradiction`]: such a call gets no more ticks.
pub fn interval_ms(last: Option<&LastTick>, connected_at: Timestamp, configured: u64) -> Result<u64, Contradiction> {
    let Some(LastTick { tick, .. }) = last else {
        return Ok(configured);
    };
    if tick.connected_at != connected_at {
        return Err(Contradiction::ConnectedAt {
            tick: tick.connected_at,
            call: connected_at,
        });
    }
    let (minute, span_ms) = (tick.minute, tick.at.millis_since(connected_at));
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
        LastTick {
            tick: tick("c", minute, 0, due_ms),
            sequence: 7,
        }
    }

    #[test]
    fn minutes_are_counted_by_the_last_tick() {
        assert_eq!(next_minute(None), 1);
        assert_eq!(next_minute(Some(&last(3, 180_000))), 4);
    }

    #[test]
    fn a_call_keeps_the_interval_it_began_with() {
        assert_eq!(interval_ms(None, at(0), 1_000), Ok(1_000));
        assert_eq!(interval_ms(Some(&last(3, 180_000)), at(0), 1_000), Ok(60_000));
    }

    #[test]
    fn ticks_that_cannot_be_of_this_call_are_told() {
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
