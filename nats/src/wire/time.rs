//! Wall-clock time as the contract writes it: RFC 3339, UTC, whole milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Wall-clock time in whole milliseconds.
///
/// The precision is that of the serialised form, so a stored time equals the original. An optional time takes 8 bytes as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// Milliseconds since the Unix epoch with the sign bit flipped: in the same order, and never 0 within the calendar.
pub struct Timestamp(NonZeroU64);

/// The first and the last millisecond that RFC 3339 can write, with years of four digits.
const CALENDAR: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;
const SIGN: u64 = 1 << 63;
const MILLIS_PER_DAY: i64 = 86_400_000;

impl Timestamp {
    /// 1970-01-01T00:00:00.000Z.
    pub const UNIX_EPOCH: Self = Self(NonZeroU64::MIN.saturating_add(SIGN - 1));

    /// The wall clock, cut to the millisecond.
    pub fn now() -> Self {
        Utc::now().into()
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_millis(self) -> i64 {
        (self.0.get() ^ SIGN).cast_signed()
    }

    /// From milliseconds since the Unix epoch; `None` outside of the years 0 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        if !CALENDAR.contains(&millis) {
            return None;
        }
        NonZeroU64::new(millis.cast_unsigned() ^ SIGN).map(Self)
    }

    /// Milliseconds from `earlier` to `self`, 0 if `self` is the earlier one.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.as_millis() - earlier.as_millis()).unwrap_or(0)
    }

    /// This time plus `millis`, limited to the year 9999, which is the last that can be read back.
    pub fn plus_millis(self, millis: u64) -> Self {
        let later = self
            .as_millis()
            .saturating_add(i64::try_from(millis).unwrap_or(i64::MAX));
        Self::from_millis(later.min(*CALENDAR.end())).unwrap_or(self)
    }

    /// This time plus `duration`, see [`Timestamp::plus_millis`].
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// This time minus `duration`, rounded down, and limited to the year 0.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        let earlier = self.as_millis().saturating_sub(millis);
        Self::from_millis(earlier.max(*CALENDAR.start())).unwrap_or(self)
    }

    /// The time from now until this time, by the wall clock; zero if it has passed.
    pub fn until(self, now: Self) -> Duration {
        Duration::from_millis(self.millis_since(now))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        let millis = time.timestamp_millis().clamp(*CALENDAR.start(), *CALENDAR.end());
        Self::from_millis(millis).unwrap_or(Self::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; TEXT_LEN]))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// The length of every serialised time.
const TEXT_LEN: usize = "2025-01-15T12:02:15.123Z".len();

impl Timestamp {
    /// Without the formatting machinery: most of a fact's serialised fields are times.
    fn text(self, buffer: &mut [u8; TEXT_LEN]) -> &str {
        let millis = self.as_millis();
        let (year, month, day) = civil(millis.div_euclid(MILLIS_PER_DAY));
        let of_day = millis.rem_euclid(MILLIS_PER_DAY);
        let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
        let digit = |number: i64, unit: i64| b'0' + u8::try_from(number / unit % 10).unwrap_or_default();
        let pair = |number: i64| [digit(number, 10), digit(number, 1)];
        let ([y, z], [mo, nth], [d, ay], [h, our], [mi, nute], [s, econd]) = (
            pair(year),
            pair(month),
            pair(day),
            pair(hour),
            pair(minute),
            pair(second),
        );
        *buffer = [
            digit(year, 1_000),
            digit(year, 100),
            y,
            z,
            b'-',
            mo,
            nth,
            b'-',
            d,
            ay,
            b'T',
            h,
            our,
            b':',
            mi,
            nute,
            b':',
            s,
            econd,
            b'.',
            digit(of_day, 100),
            digit(of_day, 10),
            digit(of_day, 1),
            b'Z',
        ];
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

/// Year, month and day of a day since the Unix epoch. Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days_since_epoch: i64) -> (i64, i64, i64) {
    let days = days_since_epoch + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Of a year that begins in March.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + later, month, day)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; TEXT_LEN]))
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
    fn times_are_written_as_chrono_writes_them() {
        let (first, last) = CALENDAR.into_inner();
        let step = (last - first) / 50_021;
        let times = (0..50_021)
            .map(|number| first + number * step)
            .chain([first, -1, 0, last]);
        for time in times.map(|millis| Timestamp::from_millis(millis).unwrap()) {
            let chronos = DateTime::from_timestamp_millis(time.as_millis()).unwrap();
            assert_eq!(
                time.to_string(),
                chronos.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
            );
        }
        assert_eq!(Timestamp::UNIX_EPOCH.as_millis(), 0);
        assert!(Timestamp::from_millis(-1) < Timestamp::from_millis(0));
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn a_duration_is_never_negative() {
        let start = Timestamp::from_millis(1_000).unwrap();
        assert_eq!(start.plus_millis(250).millis_since(start), 250);
        assert_eq!(start.millis_since(start.plus_millis(250)), 0);
        assert!(start.plus_millis(u64::MAX) > start);
    }

    #[test]
    fn every_time_can_be_read_back() {
        let now = Timestamp::now();
        let first: Timestamp = "0000-01-01T00:00:00+23:59".parse::<DateTime<Utc>>().unwrap().into();
        let last: Timestamp = "9999-12-31T23:59:59-23:59".parse::<DateTime<Utc>>().unwrap().into();
        for time in [
            now.plus_millis(1_000_000_000_000_000),
            now.plus_millis(u64::MAX),
            first,
            last,
        ] {
            let text = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time, "{text}");
        }
        assert_eq!(Timestamp::from_millis(i64::MAX), None);
        assert_eq!(Timestamp::from_millis(i64::MIN), None);
    }

    #[test]
    fn invalid_times_are_rejected() {
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Timestamp>("1736942535123").is_err());
    }
}
