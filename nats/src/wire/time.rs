//! Wall-clock time as the contract writes it: RFC 3339, UTC, whole milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Wall-clock time in whole milliseconds.
///
/// The precision is that of the serialised form, so a stored time equals the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The wall clock, cut to the millisecond.
    pub fn now() -> Self {
        Utc::now().into()
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// From milliseconds since the Unix epoch; `None` outside of the calendar.
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// Milliseconds from `earlier` to `self`, 0 if `self` is the earlier one.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.as_millis() - earlier.as_millis()).unwrap_or(0)
    }

    /// This time plus `millis`, limited to the end of the calendar.
    pub fn plus_millis(self, millis: u64) -> Self {
        let delta = i64::try_from(millis)
            .ok()
            .and_then(TimeDelta::try_milliseconds)
            .unwrap_or(TimeDelta::MAX);
        Self(self.0.checked_add_signed(delta).unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    /// This time plus `duration`, see [`Timestamp::plus_millis`].
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time from now until this time, by the wall clock; zero if it has passed.
    pub fn until(self, now: Self) -> Duration {
        Duration::from_millis(self.millis_since(now))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        DateTime::from_timestamp_millis(time.timestamp_millis()).map_or(Self(time), Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|time| time.with_timezone(&Utc).into())
            .map_err(|error| de::Error::custom(format!("{text:?} is not an RFC 3339 time: {error}")))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        let time: Timestamp = serde_json::from_str("\"2025-01-15T21:02:15.123987+09:00\"").unwrap();
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2025-01-15T12:02:15.123Z\"");
    }

    #[test]
    fn a_time_survives_serialisation() {
        let now = Timestamp::now();
        let back: Timestamp = serde_json::from_str(&serde_json::to_string(&now).unwrap()).unwrap();
        assert_eq!(now, back);
    }

    #[test]
    fn a_duration_is_never_negative() {
        let start = Timestamp::from_millis(1_000).unwrap();
        assert_eq!(start.plus_millis(250).millis_since(start), 250);
        assert_eq!(start.millis_since(start.plus_millis(250)), 0);
        assert!(start.plus_millis(u64::MAX) > start);
    }

    #[test]
    fn invalid_times_are_rejected() {
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Timestamp>("1736942535123").is_err());
    }
}
