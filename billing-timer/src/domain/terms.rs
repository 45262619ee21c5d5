//! Minutes, and the fleet's settings for calls whose facts have no terms.

use contract::Timestamp;

pub use contract::wire::terms::{Charge, MIN_INTERVAL_MS};

/// The billed minutes of this billed time.
pub fn billed_minutes(charge: Charge, billed_ms: u64, interval_ms: u64) -> u32 {
    let interval_ms = interval_ms.max(1);
    count(match charge {
        Charge::Full => billed_ms / interval_ms,
        Charge::Start => billed_ms.div_ceil(interval_ms),
    })
}

/// The settings of the whole fleet. All instances must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultTerms {
    /// Time between ticks in milliseconds, for calls without terms and without a tick; see [`super::last_tick`] for the others.
    pub interval_ms: u64,
    /// Which minutes are billed, for calls without terms.
    pub charge: Charge,
    /// The end of a call is requested when it has been connected for this long.
    pub max_call_duration_ms: Option<u64>,
}

/// When tick `minute` is due.
pub fn due(connected_at: Timestamp, minute: u32, interval_ms: u64) -> Timestamp {
    connected_at.plus_millis(u64::from(minute).saturating_mul(interval_ms))
}

/// The number of ticks within a duration, including one at its end.
pub fn full_minutes(duration_ms: u64, interval_ms: u64) -> u32 {
    count(duration_ms / interval_ms.max(1))
}

/// Saturates after 13 years at the shortest interval.
fn count(minutes: u64) -> u32 {
    u32::try_from(minutes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_minute_is_full_at_its_end_and_started_after_its_start() {
        let minutes = |duration| {
            (
                billed_minutes(Charge::Full, duration, 60_000),
                billed_minutes(Charge::Start, duration, 60_000),
            )
        };
        assert_eq!(minutes(0), (0, 0));
        assert_eq!(minutes(1), (0, 1));
        assert_eq!(minutes(59_999), (0, 1));
        assert_eq!(minutes(60_000), (1, 1));
        assert_eq!(minutes(60_001), (1, 2));
    }

    proptest! {
        #[test]
        fn at_most_one_started_minute_is_not_full(
            duration in 0u64..40_000_000_000,
            interval in MIN_INTERVAL_MS..120_000,
        ) {
            let (full, start) = (
                billed_minutes(Charge::Full, duration, interval),
                billed_minutes(Charge::Start, duration, interval),
            );
            prop_assert_eq!(start - full, u32::from(duration % interval != 0));
            prop_assert_eq!(full, full_minutes(duration, interval));
        }

        #[test]
        fn the_last_full_minute_is_due_within_the_call_and_the_next_is_not(
            connected in 0i64..4_000_000_000_000,
            duration in 0u64..40_000_000_000,
            interval in MIN_INTERVAL_MS..120_000,
        ) {
            let connected_at = Timestamp::from_millis(connected).unwrap();
            let ended_at = connected_at.plus_millis(duration);
            let full = full_minutes(duration, interval);
            prop_assert!(due(connected_at, full, interval) <= ended_at);
            prop_assert!(due(connected_at, full + 1, interval) > ended_at);
        }
    }
}
