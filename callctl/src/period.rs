//! A period on the command line.

use anyhow::{Result, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use contract::Timestamp;

/// The end is exclusive, so that the end of one period is the start of the next.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Period {
    /// Start: a date (midnight UTC), or a time with its zone, such as 2026-11-01T09:00:00+09:00
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(crate) from: Timestamp,
    /// End, exclusive; default: now
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
}

impl Period {
    /// Start and end.
    pub(crate) fn bounds(self) -> Result<(Timestamp, Timestamp)> {
        let to = self.to.unwrap_or_else(Timestamp::now);
        ensure!(self.from < to, "--from ({}) must be before --to ({to})", self.from);
        Ok((self.from, to))
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc).into());
    }
    match text.parse::<NaiveDate>() {
        Ok(date) => Ok(date.and_time(NaiveTime::MIN).and_utc().into()),
        Err(_) => Err("expected a date (2026-11-01) or a time with its zone (2026-11-01T09:00:00Z)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_start_at_midnight_utc_and_times_have_zones() {
        let time = |text| parse_time(text).map(|at| at.to_string());
        assert_eq!(time("2026-11-01").unwrap(), "2026-11-01T00:00:00.000Z");
        assert_eq!(time("2026-11-01T09:00:00+09:00").unwrap(), "2026-11-01T00:00:00.000Z");
        for wrong in ["2026-11-01T09:00:00", "yesterday", "2026-13-01", ""] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_period_is_rejected() {
        let (from, to) = (parse_time("2026-11-02").unwrap(), parse_time("2026-11-01").unwrap());
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
