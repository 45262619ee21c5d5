//! What came of one run, and of many.

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
    /// Before the clock of who stored them had shown their time.
    pub(crate) early: u64,
    /// Before their true time, by a clock that was ahead.
    pub(crate) early_by_clocks_ahead: u64,
    /// Beyond the end, and the settlement does not tell.
    pub(crate) beyond: u64,
    /// Beyond the end, as the settlement tells.
    pub(crate) beyond_told: u64,
    pub(crate) crashes: u64,
    pub(crate) polls: u64,
    /// The latest tick where nothing was broken any more.
    pub(crate) latest_tick: Duration,
    pub(crate) violations: Vec<String>,
    /// Of everything that happened.
    pub(crate) hash: u64,
}

impl Report {
    pub(crate) fn wrong(&mut self, call: &str, what: &str) {
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
            (&mut self.early_by_clocks_ahead, other.early_by_clocks_ahead),
            (&mut self.beyond, other.beyond),
            (&mut self.beyond_told, other.beyond_told),
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
        let ahead = self.early_by_clocks_ahead;
        writeln!(
            f,
            "early          {:>10}   and {ahead} by clocks that were set ahead",
            self.early
        )?;
        let told = self.beyond_told;
        writeln!(
            f,
            "beyond the end {:>10}   and {told} that the settlement tells of",
            self.beyond
        )?;
        let (crashes, polls, late) = (self.crashes, self.polls, self.latest_tick);
        write!(
            f,
            "crashes        {crashes:>10}   polls {polls}, latest tick after the last fault {late:?}"
        )
    }
}
