//! The ticks of one call in stream order: which minutes have a tick, and how long a minute is.

use contract::wire::fact::Tick;

use super::difference::Kind;
use crate::domain::terms::{self, MIN_INTERVAL_MS};

/// The most gaps kept per call to detect ticks out of order. A further gap is reported as missing at once.
const MAX_SKIPPED: usize = 64;

/// A difference of a tick: kind, expected, found.
pub(crate) type Mismatch = (Kind, String, String);

/// The minutes of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Minutes {
    /// The number of minutes with a tick.
    pub(crate) stored: u32,
    /// The highest minute with a tick.
    pub(crate) highest: u32,
    skipped: Vec<SkippedMinutes>,
    /// From the last tick with a valid interval.
    interval_ms: Option<u64>,
    /// The interval of the first tick, if it differs from the setting.
    other_ms: Option<u64>,
}

/// Minutes without a tick before a minute with one.
#[derive(Debug, Clone, Copy)]
struct SkippedMinutes {
    first: u32,
    last: u32,
    sequence: u64,
}

/// Minutes that were due but have no tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissingMinutes {
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// The tick that was stored in their place, if any.
    pub(crate) sequence: Option<u64>,
}

impl Minutes {
    /// The length of a minute in milliseconds.
    pub(crate) fn interval_ms(&self, configured: u64) -> u64 {
        self.interval_ms.unwrap_or(configured)
    }

    /// Adds the next tick of the stream.
    pub(crate) fn add(&mut self, tick: &Tick, sequence: u64, configured: u64) -> Vec<Mismatch> {
        let length = self.length(tick, configured);
        length.into_iter().chain(self.number(tick.minute, sequence)).collect()
    }

    fn length(&mut self, tick: &Tick, configured: u64) -> Option<Mismatch> {
        let span_ms = tick.at.millis_since(tick.connected_at);
        let minute = u64::from(tick.minute);
        let interval = span_ms
            .checked_div(minute)
            .filter(|interval| interval.checked_mul(minute) == Some(span_ms) && *interval >= MIN_INTERVAL_MS);
        match interval {
            Some(interval) if interval == configured || self.other_ms == Some(interval) => {
                self.interval_ms = Some(interval);
                None
            }
            // A call keeps the interval of its first tick.
            Some(interval) if self.stored == 0 => {
                self.interval_ms = Some(interval);
                self.other_ms = Some(interval);
                let found = format!("{interval} ms by tick {minute}");
                Some((Kind::MinuteLength, format!("minutes of {configured} ms"), found))
            }
            _ => {
                let due = terms::due(tick.connected_at, tick.minute, self.interval_ms(configured));
                Some((Kind::TickTime, format!("tick {minute} at {due}"), tick.at.to_string()))
            }
        }
    }

    fn number(&mut self, minute: u32, sequence: u64) -> Option<Mismatch> {
        let next = self.highest.saturating_add(1);
        if minute > self.highest {
            self.highest = minute;
            self.stored += 1;
            if minute > next {
                return self.skip(next, minute - 1, sequence);
            }
            return None;
        }
        let expected = format!("tick {next} or none");
        let position = self
            .skipped
            .iter()
            .position(|skipped| (skipped.first..=skipped.last).contains(&minute));
        let Some(index) = position else {
            return Some((Kind::TickDoubled, expected, format!("tick {minute} once more")));
        };
        let skipped = self.skipped.swap_remove(index);
        self.stored += 1;
        let before = (skipped.first < minute).then(|| SkippedMinutes {
            last: minute - 1,
            ..skipped
        });
        let after = (minute < skipped.last).then(|| SkippedMinutes {
            first: minute + 1,
            ..skipped
        });
        self.skipped.extend(before.into_iter().chain(after));
        let found = format!("tick {minute} after tick {}", self.highest);
        Some((Kind::TickOutOfOrder, expected, found))
    }

    fn skip(&mut self, first: u32, last: u32, sequence: u64) -> Option<Mismatch> {
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(SkippedMinutes { first, last, sequence });
            return None;
        }
        let missing = MissingMinutes {
            first,
            last,
            sequence: Some(sequence),
        };
        let (expected, found) = missing.texts();
        Some((Kind::TickMissing, expected, found))
    }

    /// The minutes up to `due` that have no tick, in order.
    pub(crate) fn missing(&self, due: u32) -> Vec<MissingMinutes> {
        let tail = (self.highest < due).then(|| MissingMinutes {
            first: self.highest + 1,
            last: due,
            sequence: None,
        });
        let skipped = self
            .skipped
            .iter()
            .filter(|skipped| skipped.first <= due)
            .map(|skipped| MissingMinutes {
                first: skipped.first,
                last: skipped.last.min(due),
                sequence: Some(skipped.sequence),
            });
        let mut missing: Vec<MissingMinutes> = skipped.chain(tail).collect();
        missing.sort_by_key(|missing| missing.first);
        missing
    }
}

impl MissingMinutes {
    /// The number of minutes.
    pub(crate) fn count(self) -> u32 {
        (self.last - self.first).saturating_add(1)
    }

    /// The texts for expected and found.
    pub(crate) fn texts(self) -> (String, String) {
        let Self { first, last, .. } = self;
        let expected = if first == last {
            format!("tick {first}")
        } else {
            format!("ticks {first} to {last}")
        };
        let found = match self.sequence {
            Some(_) => format!("tick {} in their place", last.saturating_add(1)),
            None => "none".to_owned(),
        };
        (expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, tick};

    fn take(minutes: &mut Minutes, minute: u32, interval: i64) -> Vec<Kind> {
        let tick = tick("c", minute, 0, i64::from(minute) * interval);
        let mismatches = minutes.add(&tick, u64::from(minute), 60_000);
        mismatches.into_iter().map(|(kind, ..)| kind).collect()
    }

    fn numbers(minutes: &Minutes, due: u32) -> Vec<(u32, u32)> {
        let missing = minutes.missing(due).into_iter();
        missing.map(|missing| (missing.first, missing.last)).collect()
    }

    #[test]
    fn minutes_in_order_are_correct_and_later_due_minutes_are_missing() {
        let mut minutes = Minutes::default();
        for minute in 1..=3 {
            assert_eq!(take(&mut minutes, minute, 60_000), []);
        }
        assert_eq!((minutes.stored, minutes.highest), (3, 3));
        assert_eq!(numbers(&minutes, 3), []);
        assert_eq!(numbers(&minutes, 5), [(4, 5)]);
    }

    #[test]
    fn skipped_minutes_are_missing_until_they_are_filled_out_of_order() {
        let mut minutes = Minutes::default();
        for minute in [1, 6] {
            assert_eq!(take(&mut minutes, minute, 60_000), []);
        }
        assert_eq!(numbers(&minutes, 9), [(2, 5), (7, 9)]);
        assert_eq!(take(&mut minutes, 3, 60_000), [Kind::TickOutOfOrder]);
        assert_eq!(take(&mut minutes, 3, 60_000), [Kind::TickDoubled]);
        assert_eq!(numbers(&minutes, 4), [(2, 2), (4, 4)]);
        assert_eq!(minutes.stored, 3);
    }

    #[test]
    fn the_first_tick_may_have_another_interval_and_later_ticks_must_keep_it() {
        let mut minutes = Minutes::default();
        assert_eq!(take(&mut minutes, 1, 30_000), [Kind::MinuteLength]);
        assert_eq!(take(&mut minutes, 2, 30_000), []);
        assert_eq!(minutes.interval_ms(60_000), 30_000);
        assert_eq!(take(&mut minutes, 3, 20_000), [Kind::TickTime]);
        assert_eq!(take(&mut minutes, 0, 0), [Kind::TickTime, Kind::TickDoubled]);
        assert_eq!(at(90_000), terms::due(at(0), 3, minutes.interval_ms(60_000)));
    }

    #[test]
    fn skipped_minutes_beyond_the_limit_are_missing_at_once() {
        let mut minutes = Minutes::default();
        let kept = u32::try_from(MAX_SKIPPED).unwrap();
        for skipped in 1..=kept {
            assert_eq!(take(&mut minutes, skipped * 2, 60_000), []);
        }
        assert_eq!(take(&mut minutes, kept * 2 + 2, 60_000), [Kind::TickMissing]);
    }
}
