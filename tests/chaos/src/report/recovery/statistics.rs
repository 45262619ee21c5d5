//! The percentiles of recovery, and their output.

use std::fmt;

use callpulse_tests::percentile::percentile;
use serde::Serialize;

use super::Recovery;

/// The number of slowest faults to print.
const PRINTED_FAULTS: usize = 12;

/// Percentiles over faults, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The number of faults.
    pub faults: usize,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, p50, p99, max } = self;
        write!(f, "{faults:>3} faults: p50 {p50:.1} s, p99 {p99:.1} s, max {max:.1} s")
    }
}

impl Percentiles {
    pub(super) fn of(seconds: impl IntoIterator<Item = f64>) -> Self {
        let seconds: Vec<f64> = seconds.into_iter().collect();
        let rank = |percent| percentile(seconds.iter().copied(), percent).unwrap_or_default();
        Self {
            faults: seconds.len(),
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without = self.without_fault.len();
        writeln!(f, "recovery       {}; {without} disturbances without a fault", self.all)?;
        writeln!(f, "               alone    {}", self.alone)?;
        writeln!(f, "               together {}", self.together)?;
        if self.starved.faults > 0 {
            writeln!(
                f,
                "               starved  {}: not measured, the hypervisor gave the processors to others",
                self.starved
            )?;
        }
        for (kind, figures) in &self.by_kind {
            writeln!(f, "  {kind:<14} {figures}")?;
        }
        let mut slowest: Vec<_> = self.faults.iter().filter(|fault| fault.disturbances > 0).collect();
        slowest.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        for fault in slowest.into_iter().take(PRINTED_FAULTS) {
            writeln!(
                f,
                "  {:>5.1} s ({:.1} s from the injection)  {} {} {}{}, {} disturbances, the last: {}{}",
                fault.seconds,
                fault.from_injection,
                fault.injected_at,
                fault.what,
                fault.target,
                match (fault.starved, fault.total, fault.together) {
                    (true, _, _) => " (starved)",
                    (_, true, _) => " (total)",
                    (_, _, true) => " (together with another)",
                    _ => "",
                },
                fault.disturbances,
                fault.last.as_deref().unwrap_or_default(),
                if fault.open { " (open)" } else { "" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_the_nearest_rank() {
        let figures = Percentiles::of((1..=200).map(f64::from));
        assert_eq!((figures.p50, figures.p99, figures.max), (100.0, 198.0, 200.0));
        assert_eq!(Percentiles::of([]), Percentiles::default());
    }
}
