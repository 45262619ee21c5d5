//! Times as integers: exact to compare, and simple to calculate with.

use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, de};

use callpulse_tests::facts::reader;

const MICROS_PER_MILLI: i64 = 1_000;

/// A wall-clock time, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// This time plus `ms` milliseconds, which may be negative.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(MICROS_PER_MILLI)))
    }

    /// Milliseconds since `earlier`, negative if that is later.
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(MICROS_PER_MILLI)
    }

    /// Seconds since `earlier`, 0 if that is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a run lasts hours, not centuries")]
        let millis = self.ms_since(earlier).max(0) as f64;
        millis / 1_000.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        DateTime::<Utc>::from(time).into()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} µs", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    /// Only as the contract writes times: UTC with milliseconds.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        reader::time(&text).map(Self::from).map_err(de::Error::custom)
    }
}
