//! The calls that a run checks: those whose `ended` was stored in the window, and those that continued at its end.
//!
//! A call belongs to the window in which its `ended` was *stored*, by the server's clock. Facts may be stored long after they
//! happened. Adjacent windows still check every call exactly once.

use std::time::Duration;

use clap::Args;
use contract::Timestamp;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use crate::domain::terms::DefaultTerms;

/// The length of a window without `--from`.
const DEFAULT_LENGTH: Duration = Duration::from_secs(24 * 3600);
/// How far back the stream is read if calls have no maximum duration.
const UNLIMITED_LOOKBACK_MS: u64 = 24 * 3_600_000;

/// The options of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Calls whose end was stored from this time on: RFC 3339, or a date (its midnight, UTC) [default: 24 hours before --to]
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub from: Option<Timestamp>,
    /// … and before this one; never later than now less --grace, which is the default
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    pub to: Option<Timestamp>,
    /// How late a tick or a settlement may be before it is reported as missing: 90s, 10m, 1h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub grace: Duration,
    /// One JSON object per line instead of text: the differences, then the summary
    #[arg(long)]
    pub json: bool,
}

/// The window in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Its beginning.
    pub(crate) from: Timestamp,
    /// Its end, which is not part of it.
    pub(crate) to: Timestamp,
    /// How late a tick or a settlement may be.
    pub(crate) grace: Duration,
}

impl Options {
    /// The window at `now`. Calls younger than the grace period are excluded.
    ///
    /// # Errors
    /// It is empty.
    pub(crate) fn window(&self, now: Timestamp) -> Result<Window, String> {
        let latest_end = back(now, self.grace);
        let to = self.to.unwrap_or(latest_end).min(latest_end);
        let from = self.from.unwrap_or_else(|| back(to, DEFAULT_LENGTH));
        if from >= to {
            return Err(format!(
                "the window from {from} to {to} is empty (--to is at most now minus --grace)"
            ));
        }
        Ok(Window {
            from,
            to,
            grace: self.grace,
        })
    }
}

impl Window {
    /// Whether the window contains a time.
    pub(crate) fn contains(&self, time: Timestamp) -> bool {
        (self.from..self.to).contains(&time)
    }

    /// Where reading starts. A call that must be over within the window began after this time.
    pub(crate) fn reading_from(&self, terms: &DefaultTerms) -> Timestamp {
        let longest_ms = terms.max_call_duration_ms.unwrap_or(UNLIMITED_LOOKBACK_MS);
        back(back(self.from, Duration::from_millis(longest_ms)), self.grace)
    }

    /// Where reading ends.
    pub(crate) fn reading_to(&self) -> Timestamp {
        self.to.plus(self.grace)
    }
}

fn back(time: Timestamp, by: Duration) -> Timestamp {
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    let earlier = Timestamp::from_millis(time.as_millis().saturating_sub(by_ms));
    earlier.unwrap_or(time)
}

/// Reads a time as the contract writes it.
pub(crate) fn time(text: &str) -> Result<Timestamp, Error> {
    Timestamp::deserialize(StrDeserializer::new(text))
}

fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    time(text)
        .or_else(|error| time(&format!("{text}T00:00:00Z")).map_err(|_| error))
        .map_err(|error| error.to_string())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let parsed = units.into_iter().find_map(|(unit, in_ms)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_millis(number.checked_mul(in_ms)?))
    });
    parsed.ok_or_else(|| format!("{text:?} is no duration: a whole number and ms, s, m, h or d"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::terms::Charge;

    fn options(from: Option<&str>, to: Option<&str>) -> Options {
        Options {
            from: from.map(|text| parse_timestamp(text).unwrap()),
            to: to.map(|text| parse_timestamp(text).unwrap()),
            grace: Duration::from_secs(600),
            json: false,
        }
    }

    fn at(text: &str) -> Timestamp {
        parse_timestamp(text).unwrap()
    }

    #[test]
    fn the_default_window_is_24_hours_before_the_grace_period() {
        let window = options(None, None).window(at("2026-03-02T00:10:00Z")).unwrap();
        assert_eq!((window.from, window.to), (at("2026-03-01"), at("2026-03-02")));
        assert!(window.contains(window.from) && !window.contains(window.to));
    }

    #[test]
    fn calls_within_the_grace_period_are_excluded() {
        let window = options(Some("2026-03-01"), Some("2026-03-09")).window(at("2026-03-02T12:00:00+09:00"));
        assert_eq!(window.unwrap().to, at("2026-03-02T02:50:00Z"));
        assert!(
            options(Some("2026-03-02"), Some("2026-03-02"))
                .window(at("2026-03-03"))
                .is_err()
        );
        assert!(options(Some("2026-03-05"), None).window(at("2026-03-03")).is_err());
    }

    #[test]
    fn reading_begins_where_the_longest_call_may_have_begun() {
        let window = options(None, Some("2026-03-02")).window(at("2026-03-09")).unwrap();
        let terms = |max_call_duration_ms| DefaultTerms {
            interval_ms: 60_000,
            charge: Charge::Full,
            max_call_duration_ms,
        };
        assert_eq!(window.reading_from(&terms(Some(3_600_000))), at("2026-02-28T22:50:00Z"));
        assert_eq!(window.reading_from(&terms(None)), at("2026-02-27T23:50:00Z"));
        assert_eq!(window.reading_to(), at("2026-03-02T00:10:00Z"));
    }

    #[test]
    fn invalid_durations_and_times_are_rejected() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "",
            "90",
            "s",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "yesterday", "2026-03", "2026-13-01"] {
            assert!(parse_timestamp(bad).is_err(), "{bad}");
        }
    }
}
