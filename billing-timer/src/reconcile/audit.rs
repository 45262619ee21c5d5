//! All calls that are open at one point of the stream: stored facts in, differences out.
//!
//! What is held is bounded by the calls that run at a time, not by the stream: a call is judged and forgotten once it is
//! over and the grace for late facts has passed. A fact that comes later still opens it once more, from what is stored of
//! it, and then only what is new is told.

use std::collections::{BTreeMap, HashMap, VecDeque};

use contract::{CallId, Fact, FactKind, Timestamp};
use serde::Serialize;
use thiserror::Error;

use super::difference::{Difference, Kind};
use super::record::{Judgement, Record, Sighting};
use super::window::Window;
use crate::domain::terms::Terms;

/// Calls that may be open at a time; each takes about half a kilobyte.
pub(crate) const MAX_OPEN_CALLS: usize = 1_000_000;

/// The stream has more open calls than can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more than {MAX_OPEN_CALLS} calls are open at a time")]
pub(crate) struct TooManyCalls;

/// What was found, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Calls of the window.
    pub(crate) calls: u64,
    /// Of these, connected ones.
    pub(crate) connected: u64,
    /// Of these, settled ones.
    pub(crate) settled: u64,
    /// Of these, those that ran on when the window ended.
    pub(crate) running: u64,
    /// What the settlements of the window bill.
    pub(crate) billed_minutes: u64,
    /// Ticks that were due, of the calls of the window.
    pub(crate) ticks_due: u64,
    /// Ticks that are stored, of the calls of the window.
    pub(crate) ticks_stored: u64,
    /// Differences by kind.
    pub(crate) differences: BTreeMap<&'static str, u64>,
    /// Differences that were left out, where one call had very many.
    pub(crate) untold: u64,
}

impl Summary {
    /// Whether the facts agree.
    pub(crate) fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }
}

struct Open {
    record: Record,
    /// Opened once more: the differences that were told, or not this window's to tell.
    told: Option<Vec<Difference>>,
    /// Whether a late fact was stored in the window.
    late: bool,
}

/// The open calls.
pub(crate) struct Audit {
    terms: Terms,
    window: Window,
    calls: HashMap<CallId, Open>,
    /// Calls that are over, and when they are judged. In the order of time, as the stream is.
    closing: VecDeque<(Timestamp, CallId)>,
    found: Vec<Difference>,
    summary: Summary,
}

impl Audit {
    /// Of a window, by a fleet's terms.
    pub(crate) fn new(terms: Terms, window: Window) -> Self {
        Self {
            terms,
            window,
            calls: HashMap::new(),
            closing: VecDeque::new(),
            found: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// The stream has come to this moment: judges the calls whose grace is over.
    pub(crate) fn pass_to(&mut self, now: Timestamp) {
        while self.closing.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, call)) = self.closing.pop_front()
                && let Some(open) = self.calls.remove(&call)
            {
                self.close(open);
            }
        }
    }

    /// Whether a call is not known though this fact is not its first: what is stored before it is to be given to
    /// [`Audit::recall`].
    pub(crate) fn lacks_history(&self, fact: &Fact) -> bool {
        is_billed(fact.kind()) && fact.kind() != FactKind::Requested && !self.calls.contains_key(fact.call_id())
    }

    /// A fact from before the one that is at hand, in the order of the stream.
    pub(crate) fn recall(&mut self, sighting: Sighting) -> Result<(), TooManyCalls> {
        self.enter(sighting).map(drop)
    }

    /// All facts of a call from before `now` were given.
    pub(crate) fn recalled(&mut self, call: &CallId, now: Timestamp) {
        let Some(open) = self.calls.get_mut(call) else { return };
        let Some(over_at) = open.record.over_at else { return };
        if over_at.plus(self.window.grace) <= now {
            open.told = Some(open.record.over(&self.terms).differences);
        }
        self.closing.push_back((now.plus(self.window.grace), call.clone()));
    }

    /// The next fact of the stream.
    ///
    /// # Errors
    /// [`TooManyCalls`]
    pub(crate) fn take(&mut self, sighting: Sighting) -> Result<(), TooManyCalls> {
        if !is_billed(sighting.fact.kind()) {
            return Ok(());
        }
        let (call, stored_at) = (sighting.fact.call_id().clone(), sighting.stored_at);
        let in_window = self.window.contains(stored_at);
        let grace = self.window.grace;
        let open = self.enter(sighting)?;
        open.late |= in_window && open.told.is_some();
        if open.record.over_at == Some(stored_at) {
            self.closing.push_back((stored_at.plus(grace), call));
        }
        Ok(())
    }

    /// A message of the stream that is no fact.
    pub(crate) fn unreadable(&mut self, call: Option<CallId>, sequence: u64, stored_at: Timestamp, reason: String) {
        self.message(Kind::Unreadable, call, Some(sequence), stored_at, ("a fact", reason));
    }

    /// A message that a service has set aside.
    pub(crate) fn parked(&mut self, call: Option<CallId>, sequence: Option<u64>, parked_at: Timestamp, reason: String) {
        self.message(Kind::Parked, call, sequence, parked_at, ("nothing parked", reason));
    }

    /// Takes what was found so far.
    pub(crate) fn found(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.found)
    }

    /// How many calls are held.
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// The stream has no more for this window: judges what is still open.
    pub(crate) fn finish(mut self) -> (Vec<Difference>, Summary) {
        let mut open: Vec<Open> = std::mem::take(&mut self.calls).into_values().collect();
        open.sort_by_key(|open| open.record.first_sequence);
        for open in open {
            let over = open.record.over_at.is_some_and(|at| at < self.window.to);
            if over || open.told.is_some() {
                self.close(open);
            } else if open.record.first_stored_at < self.window.to {
                let judgement = open.record.running(&self.terms, self.window.to);
                self.summary.running += 1;
                self.count(judgement);
            }
        }
        (self.found, self.summary)
    }

    fn enter(&mut self, sighting: Sighting) -> Result<&mut Open, TooManyCalls> {
        let call = sighting.fact.call_id();
        if self.calls.len() >= MAX_OPEN_CALLS && !self.calls.contains_key(call) {
            return Err(TooManyCalls);
        }
        let open = self.calls.entry(call.clone()).or_insert_with(|| Open {
            record: Record::new(&sighting),
            told: None,
            late: false,
        });
        open.record.take(sighting, &self.terms);
        Ok(open)
    }

    fn close(&mut self, open: Open) {
        let Open { record, told, late } = open;
        match told {
            Some(told) if late => {
                let new = record.over(&self.terms).differences.into_iter();
                self.tell(new.filter(|difference| !told.contains(difference)).collect());
            }
            None if record.over_at.is_some_and(|at| self.window.contains(at)) => self.count(record.over(&self.terms)),
            // Nothing that is new; or over before the window, and judged by the one before.
            _ => {}
        }
    }

    fn count(&mut self, judgement: Judgement) {
        let summary = &mut self.summary;
        summary.calls += 1;
        summary.connected += u64::from(judgement.connected);
        summary.settled += u64::from(judgement.settled);
        summary.billed_minutes += u64::from(judgement.billed_minutes);
        summary.ticks_due += u64::from(judgement.ticks_due);
        summary.ticks_stored += u64::from(judgement.ticks_stored);
        summary.untold += u64::from(judgement.untold);
        self.tell(judgement.differences);
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
            self.tell(vec![Difference {
                kind,
                call_id,
                sequences: sequence.into_iter().collect(),
                expected: expected.to_owned(),
                found,
            }]);
        }
    }

    fn tell(&mut self, differences: Vec<Difference>) {
        for difference in &differences {
            *self.summary.differences.entry(difference.kind.as_str()).or_default() += 1;
        }
        self.found.extend(differences);
    }
}

/// Whether minutes rest on facts of this kind.
fn is_billed(kind: FactKind) -> bool {
    match kind {
        FactKind::Requested | FactKind::RtpDetected | FactKind::Tick | FactKind::Ended | FactKind::Settled => true,
        FactKind::Accepted | FactKind::RtpLost | FactKind::RtpResumed => false,
    }
}

#[cfg(test)]
mod tests;
