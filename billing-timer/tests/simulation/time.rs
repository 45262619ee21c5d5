//! The time of a run: microseconds since its start, and the wall clock that shows them.

use std::time::Duration;

use contract::Timestamp;

/// The wall clock at the start of a run, in milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The time this many milliseconds after the start of the run.
pub(crate) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(EPOCH_MS + millis).unwrap()
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}
