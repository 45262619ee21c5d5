//! The report of the checker, as text and as JSON.

pub mod recovery;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::report::recovery::Recovery;

/// The findings that are kept in full. All are counted.
const MOST_FINDINGS: usize = 1_000;
/// The findings that are printed.
const PRINTED_FINDINGS: usize = 10;

/// The kinds of findings, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A due tick is not stored: lost revenue.
    TickMissing,
    /// A tick is stored twice: billed twice.
    TickDoubled,
    /// Ticks beyond the end that the settlement does not report.
    BeyondEnd,
    /// The settlement differs from the facts.
    Settlement,
    /// The duration of a call contradicts the true clocks of the server and the clients.
    Duration,
    /// Media flowed, or a call was billed, beyond what was granted.
    Credit,
    /// An ended call has no settlement.
    NotSettled,
    /// A requested call has no end.
    NotEnded,
    /// A connection without evidence.
    Evidence,
    /// A fact that may be stored once is stored more often.
    Repeated,
    /// The `connectedAt` of the end differs from that of the connection.
    Beginning,
    /// Facts in an invalid order.
    Order,
    /// Facts of a call without a request.
    NotRequested,
    /// A tick was stored before it was due.
    TickEarly,
    /// A tick's `at` is not `connectedAt` + n × interval.
    TickTime,
    /// A tick has another `connectedAt` than the call.
    TickBeginning,
    /// Tick n follows tick n + 1.
    TickOrder,
    /// A sequence is missing in the stream.
    StreamGap,
    /// A message violates the contract or the protocol.
    Unreadable,
    /// A service parked a message.
    Parked,
    /// A party received a false notice.
    FalseNotice,
    /// A party received a notice before its fact was stored.
    EarlyNotice,
    /// A party received a notice about another call.
    MisdirectedNotice,
    /// A party was never informed.
    MissingNotice,
    /// A party was informed too late.
    LateNotice,
    /// The run ended too early to decide whether a party would have been informed.
    Undecided,
    /// There was no recovery, or no fault that explains a disturbance.
    Recovery,
    /// Recovery took too long, or cannot be measured, in this run alone.
    Slow,
    /// The run log overflowed: the evidence is incomplete.
    Overflow,
    /// There is nothing to check.
    Nothing,
}

/// A violated invariant.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its kind.
    pub check: Check,
    /// The call, or empty.
    pub call_id: String,
    /// The facts' sequences in the stream.
    pub sequences: Vec<u64>,
    /// The description.
    pub text: String,
}

/// Calls by their number of facts of a kind.
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
    /// Due by connection and end.
    pub due: u64,
    /// Stored in the stream.
    pub stored: u64,
    /// Due and not stored.
    pub missing: u64,
    /// Stored again.
    pub doubled: u64,
    /// After a later one.
    pub out_of_order: u64,
    /// With a wrong `at` or `connectedAt`.
    pub wrong: u64,
    /// Stored before it was due.
    pub early: u64,
    /// Stored beyond the end, and reported by the settlement.
    pub beyond_announced: u64,
    /// Stored beyond the end, and not reported by the settlement.
    pub beyond_unannounced: u64,
}

/// Calls with credit control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CreditCounts {
    /// Calls that were granted more time than at first.
    pub extended: u64,
    /// Calls that ended because their credit was exhausted.
    pub exhausted: u64,
    /// Of these, calls of which a party recorded the last packet that it received.
    pub heard: u64,
    /// Calls that were heard to the end of the granted time while their worker was cut off from NATS.
    pub heard_without_nats: u64,
}

/// How the parties were informed of connections and ends, counted per party and milestone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NoticeCounts {
    /// By the notice.
    pub notified: u64,
    /// By `welcome` or `snapshot`.
    pub resynchronised: u64,
    /// Of the connection, by the end of the call.
    pub overtaken: u64,
    /// Not at all: disconnected until the end of the run.
    pub cut_off: u64,
    /// Too late, despite calm.
    pub late: u64,
    /// Never, despite calm.
    pub missing: u64,
    /// Never, without calm.
    pub undecided: u64,
}

/// The report of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The minute's length, in milliseconds.
    pub interval_ms: i64,
    /// Messages in the stream.
    pub facts: u64,
    /// Of these, facts of kinds that the checker does not know.
    pub unknown: u64,
    /// Parked messages.
    pub parked: u64,
    /// Messages that parties received.
    pub messages: u64,
    /// Calls with at least one fact.
    pub calls: u64,
    /// Facts `rtp_detected`.
    pub detected: PerCall,
    /// Facts `ended`.
    pub ended: PerCall,
    /// Ended calls by their reason.
    pub reasons: BTreeMap<String, u64>,
    /// Facts `settled`.
    pub settled: PerCall,
    /// Ticks.
    pub ticks: Ticks,
    /// Calls with credit control.
    pub credit: CreditCounts,
    /// Notices.
    pub notices: NoticeCounts,
    /// Recovery from the faults.
    pub recovery: Recovery,
    /// The number of findings of each kind.
    pub counts: BTreeMap<Check, u64>,
    /// In order of discovery, at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
}

impl PerCall {
    /// Counts a call with this number of facts.
    pub fn count(&mut self, facts: usize) {
        match facts {
            0 => self.none += 1,
            1 => self.one += 1,
            _ => self.more += 1,
        }
    }
}

impl Report {
    /// Whether there is no finding.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether slow recovery, which is checked over all runs, is the only finding.
    pub fn is_at_most_slow(&self) -> bool {
        self.counts.keys().all(|check| *check == Check::Slow)
    }

    /// The kinds of findings about stored facts and sent notices. How long recovery takes depends on how busy the machine is.
    pub fn without_recovery_times(&self) -> Vec<Check> {
        let is_no_time = |check: &Check| !matches!(check, Check::Recovery | Check::Slow);
        self.counts.keys().copied().filter(is_no_time).collect()
    }

    /// The number of findings of a kind.
    pub fn count(&self, check: Check) -> u64 {
        self.counts.get(&check).copied().unwrap_or(0)
    }

    /// One line for a log of runs.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Adds a finding.
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

    /// The findings to print: the first of each kind, worst kinds first, then the second of each.
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
        let NoticeCounts {
            notified,
            resynchronised,
            overtaken,
            cut_off,
            late,
            missing: not_informed,
            undecided,
        } = self.notices;
        let (facts, parked) = (self.facts, self.parked);
        writeln!(
            f,
            "calls          {} ({facts} facts, {parked} parked, {} messages read)",
            self.calls, self.messages
        )?;
        writeln!(f, "rtp_detected   {}", self.detected)?;
        writeln!(f, "ended          {}", self.ended)?;
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, calls)| format!("{calls} {reason}"))
            .collect();
        writeln!(f, "               {}", reasons.join(", "))?;
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
        let CreditCounts {
            extended,
            exhausted,
            heard,
            heard_without_nats,
        } = self.credit;
        writeln!(
            f,
            "credit         {extended} calls extended, {exhausted} exhausted, the last packets of {heard} of these known"
        )?;
        writeln!(
            f,
            "               {heard_without_nats} calls heard to the end of the granted time without NATS"
        )?;
        writeln!(
            f,
            "parties        {notified} notified, {resynchronised} resynchronised, {overtaken} overtaken by the end, {cut_off} cut off until the end of the run"
        )?;
        writeln!(
            f,
            "               {not_informed} not informed, {late} late, {undecided} undecided"
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
