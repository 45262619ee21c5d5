//! The result of one run, and the sum of many.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) calls: u64,
    pub(crate) settled: u64,
    pub(crate) ticks_due: u64,
    pub(crate) ticks_stored: u64,
    pub(crate) missing: u64,
    pub(crate) doubled: u64,
    /// Stored before their true time.
    pub(crate) early: u64,
    /// Ticks beyond the end that the settlement does not report.
    pub(crate) beyond: u64,
    /// Ticks beyond the end that the settlement reports.
    pub(crate) beyond_reported: u64,
    pub(crate) crashes: u64,
    pub(crate) polls: u64,
    /// The latest tick after the last fault.
    pub(crate) latest_tick: Duration,
    pub(crate) violations: Vec<String>,
    /// The hash of all occurrences.
    pub(crate) hash: u64,
}

impl Report {
    pub(crate) fn violation(&mut self, call: &str, what: &str) {
        self.violations.push(format!("{call}: {what}"));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, number) in [
            (&mut self.calls, other.calls),
            (&mut self.settled, other.settled),
            (&mut self.ticks_due, other.ticks_due),
            (&mut self.ticks_stored, other.ticks_stored),
            (&mut self.missing, other.missing),
            (&mut self.doubled, other.doubled),
            (&mut self.early, other.early),
            (&mut self.beyond, other.beyond),
            (&mut self.beyond_reported, other.beyond_reported),
            (&mut self.crashes, other.crashes),
            (&mut self.polls, other.polls),
        ] {
            *sum += number;
        }
        self.latest_tick = self.latest_tick.max(other.latest_tick);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calls          {:>10}   settled once {}", self.calls, self.settled)?;
        writeln!(
            f,
            "ticks due      {:>10}   stored {}",
            self.ticks_due, self.ticks_stored
        )?;
        writeln!(f, "missing        {:>10}", self.missing)?;
        writeln!(f, "doubled        {:>10}", self.doubled)?;
        writeln!(f, "early          {:>10}", self.early)?;
        let reported = self.beyond_reported;
        writeln!(
            f,
            "beyond the end {:>10}   and {reported} that the settlement reports",
            self.beyond
        )?;
        let (crashes, polls, late) = (self.crashes, self.polls, self.latest_tick);
        write!(
            f,
            "crashes        {crashes:>10}   polls {polls}, latest tick after the last fault {late:?}"
        )
    }
}
