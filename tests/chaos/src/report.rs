//! What the judge found, for people and for machines.

pub mod recovery;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::report::recovery::Recovery;

/// Findings that are kept in full; all are counted.
const MOST_FINDINGS: usize = 1_000;
/// Findings that are printed.
const PRINTED_FINDINGS: usize = 10;

/// What was found fault with; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A due tick is not stored: lost money.
    TickMissing,
    /// A tick is stored twice: money taken twice.
    TickDoubled,
    /// Ticks beyond the end that the record does not tell of.
    BeyondEnd,
    /// The record differs from the facts.
    Settlement,
    /// An ended call has no record.
    NotSettled,
    /// A requested call has no end.
    NotEnded,
    /// A connection was claimed that nobody made.
    Evidence,
    /// A fact that is stored once at most is stored more often.
    Repeated,
    /// The end differs from the beginning on when the call began.
    Beginning,
    /// Facts in an order that cannot be.
    Order,
    /// Facts of a call that nobody requested.
    NotRequested,
    /// A tick was stored before it was due.
    TickEarly,
    /// A tick's `at` is not `connectedAt` + n × interval.
    TickTime,
    /// A tick counts from another beginning than the call's.
    TickBeginning,
    /// Tick n after tick n + 1.
    TickOrder,
    /// A sequence is not in the stream.
    Hole,
    /// A message is not what the contract or the protocol says.
    Unreadable,
    /// A service put a message aside as unreadable.
    Parked,
    /// A party was told what is not so.
    ToldUntrue,
    /// A party was told before it was stored.
    ToldEarly,
    /// A party was told of a call of others.
    ToldStranger,
    /// A party never got to know.
    NotTold,
    /// A party got to know too late.
    ToldLate,
    /// Whether a party would have got to know cannot be said: the run was over too early.
    Undecided,
    /// There was no recovery, or nothing that it would have been from.
    Recovery,
    /// Recovery took too long, or how long cannot be said: by this run alone.
    Slow,
    /// The run_log had no room: the evidence is not whole.
    Overflow,
    /// There was nothing to judge.
    Nothing,
}

/// One thing found fault with.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What kind.
    pub check: Check,
    /// The call, if it is of one.
    pub call_id: String,
    /// The facts' sequences in the stream.
    pub sequences: Vec<u64>,
    /// For people.
    pub text: String,
}

/// Calls by how many facts of a kind they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PerCall {
    /// Calls with none.
    pub none: u64,
    /// Calls with exactly one.
    pub one: u64,
    /// Calls with more.
    pub more: u64,
}

/// Ticks of all calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ticks {
    /// By connection and end.
    pub due: u64,
    /// In the stream.
    pub stored: u64,
    /// Due and not stored.
    pub missing: u64,
    /// Stored once more.
    pub doubled: u64,
    /// After a later one.
    pub out_of_order: u64,
    /// With a wrong `at` or `connectedAt`.
    pub wrong: u64,
    /// Stored before it was due.
    pub early: u64,
    /// Stored beyond the end, as the record says.
    pub beyond_announced: u64,
    /// Stored beyond the end, and the record does not say so.
    pub beyond_unannounced: u64,
}

/// How the parties got to know of beginnings and ends: one entry for each party and each of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Telling {
    /// By the notice.
    pub told: u64,
    /// By `welcome` or `snapshot`.
    pub resynchronised: u64,
    /// Of the beginning only by its end.
    pub overtaken: u64,
    /// Not at all: without a connection until the end of the run.
    pub cut_off: u64,
    /// In spite of calm, too late.
    pub late: u64,
    /// In spite of calm, never.
    pub not_told: u64,
    /// Never, and there was no calm.
    pub undecided: u64,
}

/// The whole judgement.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The minute's length, in milliseconds.
    pub interval_ms: i64,
    /// Messages in the stream.
    pub facts: u64,
    /// Messages that services put aside.
    pub parked: u64,
    /// Messages that parties read.
    pub messages: u64,
    /// Calls with any fact.
    pub calls: u64,
    /// Facts `rtp_detected`.
    pub detected: PerCall,
    /// Facts `ended`.
    pub ended: PerCall,
    /// Facts `settled`.
    pub settled: PerCall,
    /// Minutes.
    pub ticks: Ticks,
    /// Screens.
    pub telling: Telling,
    /// Faults.
    pub recovery: Recovery,
    /// How many of each kind.
    pub counts: BTreeMap<Check, u64>,
    /// In the order of looking; not more than [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
}

impl PerCall {
    /// Counts a call with so many.
    pub fn count(&mut self, facts: usize) {
        match facts {
            0 => self.none += 1,
            1 => self.one += 1,
            _ => self.more += 1,
        }
    }
}

impl Report {
    /// Whether nothing was found fault with.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether nothing was found fault with but how long recovery took, which is judged over all runs.
    #[must_use]
    pub fn is_at_most_slow(&self) -> bool {
        self.counts.keys().all(|check| *check == Check::Slow)
    }

    /// How many findings of a kind there are.
    #[must_use]
    pub fn count(&self, check: Check) -> u64 {
        self.counts.get(&check).copied().unwrap_or(0)
    }

    /// One line for a log of runs.
    ///
    /// # Errors
    /// None in practice: all of it has a JSON form.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Finds fault.
    pub fn find(&mut self, check: Check, call_id: &str, sequences: &[u64], text: impl Into<String>) {
        *self.counts.entry(check).or_default() += 1;
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding {
                check,
                call_id: call_id.to_owned(),
                sequences: sequences.to_vec(),
                text: text.into(),
            });
        }
    }

    /// The worst findings: the first of each kind, worst kinds first, then the second ones.
    #[must_use]
    pub fn worst(&self) -> Vec<&Finding> {
        let mut seen: BTreeMap<Check, usize> = BTreeMap::new();
        let mut ranked: Vec<(usize, Check, &Finding)> = Vec::new();
        for finding in &self.findings {
            let nth = seen.entry(finding.check).or_default();
            *nth += 1;
            ranked.push((*nth, finding.check, finding));
        }
        ranked.sort_by_key(|(nth, check, _)| (*nth, *check));
        ranked
            .into_iter()
            .map(|(_, _, finding)| finding)
            .take(PRINTED_FINDINGS)
            .collect()
    }
}

impl fmt::Display for PerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls with one, {} with none, {} with more",
            self.one, self.none, self.more
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ticks {
            due,
            stored,
            missing,
            doubled,
            out_of_order,
            wrong,
            early,
            beyond_announced,
            beyond_unannounced,
        } = self.ticks;
        let Telling {
            told,
            resynchronised,
            overtaken,
            cut_off,
            late,
            not_told,
            undecided,
        } = self.telling;
        let (facts, parked) = (self.facts, self.parked);
        writeln!(
            f,
            "calls          {} ({facts} facts, {parked} parked, {} messages read)",
            self.calls, self.messages
        )?;
        writeln!(f, "rtp_detected   {}", self.detected)?;
        writeln!(f, "ended          {}", self.ended)?;
        writeln!(
            f,
            "settled        {}; {} disagreements",
            self.settled,
            self.count(Check::Settlement)
        )?;
        writeln!(
            f,
            "ticks          {due} due, {stored} stored, {missing} missing, {doubled} doubled (every {} ms)",
            self.interval_ms
        )?;
        writeln!(
            f,
            "               {early} early, {wrong} wrong, {out_of_order} out of order"
        )?;
        writeln!(
            f,
            "beyond the end {beyond_announced} announced by overTicks, {beyond_unannounced} not"
        )?;
        writeln!(
            f,
            "parties        {told} told, {resynchronised} resynchronised, {overtaken} overtaken by the end, {cut_off} cut off until the end of the run"
        )?;
        writeln!(
            f,
            "               {not_told} not told, {late} told late, {undecided} undecided"
        )?;
        write!(f, "{}", self.recovery)?;
        for (check, count) in &self.counts {
            writeln!(f, "✗ {check:?}: {count}")?;
        }
        for finding in self.worst() {
            let Finding {
                check,
                call_id,
                sequences,
                text,
            } = finding;
            writeln!(f, "  {check:?} {call_id} {sequences:?}: {text}")?;
        }
        f.write_str(if self.is_clean() { "clean" } else { "not clean" })
    }
}
