//! The calls that are open at one point of the stream: stored facts in, differences out.
//!
//! Memory is bounded by the number of concurrent calls, not by the stream: a call is checked and dropped once it is over and
//! the grace period for late facts has passed. A later fact reopens the call from its stored facts, and then only new
//! differences are reported.

use std::collections::{BTreeMap, HashMap, VecDeque};

use contract::wire::unknown::Unknown;
use contract::{CallId, Fact, FactKind, Timestamp};
use serde::Serialize;
use thiserror::Error;

use super::difference::{Difference, Kind};
use super::record::{CheckResult, Record, SeenFact, SharedTerms};
use super::window::Window;
use crate::domain::terms::DefaultTerms;

/// The most open calls. Each takes about half a kilobyte.
pub(crate) const MAX_OPEN_CALLS: usize = 1_000_000;

/// The stream has more open calls than fit in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more than {MAX_OPEN_CALLS} calls are open at a time")]
pub(crate) struct TooManyCalls;

/// The totals of the report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Calls in the window.
    pub(crate) calls: u64,
    /// Of these, connected ones.
    pub(crate) connected: u64,
    /// Of these, settled ones.
    pub(crate) settled: u64,
    /// Of these, calls that continued at the end of the window.
    pub(crate) running: u64,
    /// Minutes billed by the settlements in the window.
    pub(crate) billed_minutes: u64,
    /// Due ticks of the calls in the window.
    pub(crate) ticks_due: u64,
    /// Stored ticks of the calls in the window.
    pub(crate) ticks_stored: u64,
    /// What this version does not know in the facts of the window: kinds, fields, reasons. No bill depends on it.
    pub(crate) unknown: Unknown,
    /// Differences by kind.
    pub(crate) differences: BTreeMap<&'static str, u64>,
    /// Findings that are no differences, by kind.
    pub(crate) findings: BTreeMap<&'static str, u64>,
    /// Differences omitted because their call has too many.
    #[serde(rename = "untold")]
    pub(crate) omitted: u64,
}

impl Summary {
    /// Whether there are no differences.
    pub(crate) fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }
}

struct Open {
    record: Record,
    /// For a reopened call: the differences that are already reported or belong to an earlier window.
    reported: Option<Vec<Difference>>,
    /// Whether a late fact was stored in the window.
    late: bool,
}

/// Checks the calls of a window.
pub(crate) struct Audit {
    terms: DefaultTerms,
    window: Window,
    calls: HashMap<CallId, Open>,
    /// The terms of open calls: there are few different ones.
    shared: SharedTerms,
    /// Calls that are over, with the time at which they are checked, in order of time.
    closing: VecDeque<(Timestamp, CallId)>,
    found: Vec<Difference>,
    summary: Summary,
}

impl Audit {
    /// Checks a window by the fleet's terms.
    pub(crate) fn new(terms: DefaultTerms, window: Window) -> Self {
        Self {
            terms,
            window,
            calls: HashMap::new(),
            shared: SharedTerms::default(),
            closing: VecDeque::new(),
            found: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// The stream has reached `now`: checks the calls whose grace period has passed.
    pub(crate) fn advance_to(&mut self, now: Timestamp) {
        while self.closing.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, call)) = self.closing.pop_front()
                && let Some(open) = self.calls.remove(&call)
            {
                self.close(open);
            }
        }
    }

    /// Whether the call is unknown although this fact is not its first. Its earlier facts must then be passed to
    /// [`Audit::recall`].
    pub(crate) fn lacks_history(&self, fact: &Fact) -> bool {
        is_billed(fact.kind()) && fact.kind() != FactKind::Requested && !self.calls.contains_key(fact.call_id())
    }

    /// Adds an earlier fact of a call, in stream order.
    pub(crate) fn recall(&mut self, seen: SeenFact) -> Result<(), TooManyCalls> {
        self.enter(seen).map(drop)
    }

    /// All facts of a call before `now` have been added.
    pub(crate) fn recalled(&mut self, call: &CallId, now: Timestamp) {
        let Some(open) = self.calls.get_mut(call) else { return };
        let Some(over_at) = open.record.over_at else { return };
        if over_at.plus(self.window.grace) <= now {
            open.reported = Some(open.record.check_ended(&self.terms).differences);
        }
        self.closing.push_back((now.plus(self.window.grace), call.clone()));
    }

    /// Adds the next fact of the stream.
    ///
    /// # Errors
    /// [`TooManyCalls`]
    pub(crate) fn take(&mut self, seen: SeenFact) -> Result<(), TooManyCalls> {
        if !is_billed(seen.fact.kind()) {
            return Ok(());
        }
        let (call, stored_at) = (seen.fact.call_id().clone(), seen.stored_at);
        let in_window = self.window.contains(stored_at);
        let grace = self.window.grace;
        let open = self.enter(seen)?;
        open.late |= in_window && open.reported.is_some();
        if open.record.over_at == Some(stored_at) {
            self.closing.push_back((stored_at.plus(grace), call));
        }
        Ok(())
    }

    /// Counts what this version does not know of a message.
    pub(crate) fn unknown(&mut self, stored_at: Timestamp, unknown: Unknown) {
        if self.window.contains(stored_at) {
            self.summary.unknown += unknown;
        }
    }

    /// Reports a message that is not a fact.
    pub(crate) fn unreadable(&mut self, call: Option<CallId>, sequence: u64, stored_at: Timestamp, reason: String) {
        self.message(Kind::Unreadable, call, Some(sequence), stored_at, ("a fact", reason));
    }

    /// Reports a parked message.
    pub(crate) fn parked(&mut self, call: Option<CallId>, sequence: Option<u64>, parked_at: Timestamp, reason: String) {
        self.message(Kind::Parked, call, sequence, parked_at, ("nothing parked", reason));
    }

    /// Takes the differences found so far.
    pub(crate) fn found(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.found)
    }

    /// The number of open calls.
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// The window has been read: checks the calls that are still open.
    pub(crate) fn finish(mut self) -> (Vec<Difference>, Summary) {
        let mut open: Vec<Open> = std::mem::take(&mut self.calls).into_values().collect();
        open.sort_by_key(|open| open.record.first_sequence);
        for open in open {
            let over = open.record.over_at.is_some_and(|at| at < self.window.to);
            if over || open.reported.is_some() {
                self.close(open);
            } else if open.record.first_stored_at < self.window.to {
                let result = open.record.check_running(&self.terms, self.window.to);
                self.summary.running += 1;
                self.count(result);
            }
        }
        (self.found, self.summary)
    }

    fn enter(&mut self, seen: SeenFact) -> Result<&mut Open, TooManyCalls> {
        let call = seen.fact.call_id();
        if self.calls.len() >= MAX_OPEN_CALLS && !self.calls.contains_key(call) {
            return Err(TooManyCalls);
        }
        let open = self.calls.entry(call.clone()).or_insert_with(|| Open {
            record: Record::new(&seen),
            reported: None,
            late: false,
        });
        open.record.take(seen, &self.terms, &mut self.shared);
        Ok(open)
    }

    fn close(&mut self, open: Open) {
        let Open { record, reported, late } = open;
        match reported {
            Some(reported) if late => {
                let new = record.check_ended(&self.terms).differences.into_iter();
                self.report(new.filter(|difference| !reported.contains(difference)).collect());
            }
            None if record.over_at.is_some_and(|at| self.window.contains(at)) => {
                self.count(record.check_ended(&self.terms))
            }
            // No new facts, or over before the window and checked by an earlier window.
            _ => {}
        }
    }

    fn count(&mut self, result: CheckResult) {
        let summary = &mut self.summary;
        summary.calls += 1;
        summary.connected += u64::from(result.connected);
        summary.settled += u64::from(result.settled);
        summary.billed_minutes += u64::from(result.billed_minutes);
        summary.ticks_due += u64::from(result.ticks_due);
        summary.ticks_stored += u64::from(result.ticks_stored);
        summary.omitted += u64::from(result.omitted);
        self.report(result.differences);
    }

    fn message(
        &mut self,
        kind: Kind,
        call_id: Option<CallId>,
        sequence: Option<u64>,
        stored_at: Timestamp,
        (expected, found): (&str, String),
    ) {
        if self.window.contains(stored_at) {
            self.report(vec![Difference {
                kind,
                call_id,
                sequences: sequence.into_iter().collect(),
                expected: expected.to_owned(),
                found,
            }]);
        }
    }

    fn report(&mut self, differences: Vec<Difference>) {
        for difference in &differences {
            let summary = &mut self.summary;
            let counts = match difference.kind.is_difference() {
                true => &mut summary.differences,
                false => &mut summary.findings,
            };
            *counts.entry(difference.kind.as_str()).or_default() += 1;
        }
        self.found.extend(differences);
    }
}

/// Whether the bill depends on facts of this kind.
fn is_billed(kind: FactKind) -> bool {
    matches!(
        kind,
        FactKind::Requested
            | FactKind::RtpDetected
            | FactKind::RtpLost
            | FactKind::RtpResumed
            | FactKind::CreditGranted
            | FactKind::Tick
            | FactKind::Ended
            | FactKind::Settled
    )
}

#[cfg(test)]
mod tests;
