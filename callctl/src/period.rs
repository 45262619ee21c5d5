//! A stretch of time, as it is given on a command line.

use anyhow::{Result, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use contract::Timestamp;

/// From, inclusive, to, exclusive: so that one period's end is the next one's beginning.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Period {
    /// From this moment on: a date (its beginning in UTC), or a time with its zone, such as 2026-11-01T09:00:00+09:00
    #[arg(long, value_parser = parse_moment, value_name = "TIME")]
    pub(crate) from: Timestamp,
    /// Up to this moment, and not including it; now if left out
    #[arg(long, value_parser = parse_moment, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
}

impl Period {
    /// Both ends. What is stored while it is being read lies beyond it.
    pub(crate) fn bounds(self) -> Result<(Timestamp, Timestamp)> {
        let to = self.to.unwrap_or_else(Timestamp::now);
        ensure!(self.from < to, "--from ({}) must lie before --to ({to})", self.from);
        Ok((self.from, to))
    }
}

fn parse_moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc).into());
    }
    match text.parse::<NaiveDate>() {
        Ok(date) => Ok(date.and_time(NaiveTime::MIN).and_utc().into()),
        Err(_) => Err("neither a date (2026-11-01) nor a time with its zone (2026-11-01T09:00:00Z)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_begin_in_utc_and_times_have_zones() {
        let moment = |text| parse_moment(text).map(|at| at.to_string());
        assert_eq!(moment("2026-11-01").unwrap(), "2026-11-01T00:00:00.000Z");
        assert_eq!(moment("2026-11-01T09:00:00+09:00").unwrap(), "2026-11-01T00:00:00.000Z");
        for wrong in ["2026-11-01T09:00:00", "yesterday", "2026-13-01", ""] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_that_ends_before_it_begins_is_refused() {
        let (from, to) = (parse_moment("2026-11-02").unwrap(), parse_moment("2026-11-01").unwrap());
        assert!(Period { from, to: Some(to) }.bounds().is_err());
        assert!(Period { from, to: Some(from) }.bounds().is_err());
        assert!(
            Period {
                from: to,
                to: Some(from)
            }
            .bounds()
            .is_ok()
        );
    }
}
