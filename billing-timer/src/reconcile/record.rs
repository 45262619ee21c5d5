//! One call reconstructed from its stored facts, and the differences between them.
//!
//! The first fact of a kind counts; every later one is a difference. Due ticks and bills are computed from the call's terms, or
//! from the fleet's settings if its facts have none, without code shared with the ticker.

use std::collections::HashSet;
use std::sync::Arc;

use contract::wire::fact::{Ended, RtpDetected, Settled, Tick};
use contract::wire::terms::{Charge, Silence as SilenceRule, Terms};
use contract::{Fact, FactKind, Parties, Role, Timestamp};

use super::difference::{Difference, Kind};
use super::minutes::{Minutes, Missing};
use super::silence::Silence;
use crate::domain::terms::{FleetTerms, full_minutes};

/// Different terms that open calls share; further ones are kept by each call.
const MAX_SHARED: usize = 4_096;

/// A clock that differs by less is slewed, as NTP does it.
const MAX_CLOCK_STEP_MS: u64 = 1_000;

/// The most differences reported per call; further ones are counted.
const MAX_DIFFERENCES: usize = 32;

/// A stored fact with its sequence and the time at which it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenFact {
    /// Its sequence in the stream.
    pub(crate) sequence: u64,
    /// The server's time when it was stored.
    pub(crate) stored_at: Timestamp,
    /// The fact.
    pub(crate) fact: Fact,
}

/// Each terms once.
#[derive(Debug, Default)]
pub(crate) struct SharedTerms(HashSet<Arc<Terms>>);

impl SharedTerms {
    fn share(&mut self, terms: Terms) -> Arc<Terms> {
        match self.0.get(&terms) {
            Some(shared) => Arc::clone(shared),
            None => {
                let terms = Arc::new(terms);
                if self.0.len() < MAX_SHARED {
                    self.0.insert(Arc::clone(&terms));
                }
                terms
            }
        }
    }
}

/// A call reconstructed from its facts.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    parties: Parties,
    /// The first known fact.
    pub(crate) first_stored_at: Timestamp,
    pub(crate) first_sequence: u64,
    /// When `ended` was stored, or `settled` if there is no `ended`.
    pub(crate) over_at: Option<Timestamp>,
    connected: Option<(u64, Timestamp)>,
    ended: Option<(u64, Box<Ended>)>,
    settled: Option<(u64, Box<Settled>)>,
    minutes: Minutes,
    terms: Option<Arc<Terms>>,
    silence: Silence,
    until_ms: Option<u64>,
    unconnected: bool,
    differences: Vec<Difference>,
    omitted: u32,
}

/// The result of checking a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckResult {
    pub(crate) differences: Vec<Difference>,
    /// Differences beyond the limit.
    pub(crate) omitted: u32,
    pub(crate) connected: bool,
    pub(crate) settled: bool,
    pub(crate) billed_minutes: u32,
    pub(crate) ticks_due: u32,
    pub(crate) ticks_stored: u32,
}

impl Record {
    pub(crate) fn new(first: &SeenFact) -> Self {
        Self {
            parties: first.fact.parties().clone(),
            first_stored_at: first.stored_at,
            first_sequence: first.sequence,
            over_at: None,
            connected: None,
            ended: None,
            settled: None,
            minutes: Minutes::default(),
            terms: None,
            silence: Silence::default(),
            until_ms: None,
            unconnected: false,
            differences: Vec::new(),
            omitted: 0,
        }
    }

    /// Adds the next fact of the call, in stream order.
    pub(crate) fn take(&mut self, seen: SeenFact, fleet: &FleetTerms, shared: &mut SharedTerms) {
        let SeenFact {
            sequence,
            stored_at,
            fact,
        } = seen;
        if *fact.parties() != self.parties {
            let (expected, found) = (named(&self.parties), named(fact.parties()));
            self.note(
                Kind::Parties,
                [sequence],
                expected,
                format!("{found} in {}", fact.kind()),
            );
        }
        let terms = match &fact {
            Fact::Requested(fact) => fact.terms.as_ref(),
            Fact::RtpDetected(fact) => fact.terms.as_ref(),
            Fact::Ended(fact) => fact.terms.as_ref(),
            _ => None,
        };
        if let Some(terms) = terms {
            self.agree(sequence, fact.kind(), terms, shared);
        }
        let until_ms = match &fact {
            Fact::Requested(fact) => fact.until_ms,
            Fact::CreditGranted(fact) => Some(fact.until_ms),
            _ => None,
        };
        self.until_ms = self.until_ms.max(until_ms);
        match fact {
            Fact::RtpDetected(fact) => self.connect(sequence, &fact),
            Fact::RtpLost(fact) => self.silence.lost(fact.party, fact.last_rtp_at),
            Fact::RtpResumed(fact) => self.silence.resumed(fact.party, fact.at),
            Fact::Tick(fact) => self.tick(sequence, &fact, fleet),
            Fact::Ended(fact) => self.end(sequence, stored_at, fact),
            Fact::Settled(fact) => self.settle(sequence, stored_at, fact),
            // The bill depends on no other fact.
            _ => {}
        }
    }

    /// The terms of the request travel with the call.
    fn agree(&mut self, sequence: u64, kind: FactKind, terms: &Terms, shared: &mut SharedTerms) {
        match &self.terms {
            None => self.terms = Some(shared.share(terms.clone())),
            Some(known) if **known == *terms => {}
            Some(known) => {
                let (expected, found) = (format!("terms {}", shown(known)), format!("{} in {kind}", shown(terms)));
                self.note(Kind::Terms, [sequence], expected, found);
            }
        }
    }

    fn connect(&mut self, sequence: u64, fact: &RtpDetected) {
        match self.connected {
            None => self.connected = Some((sequence, fact.connected_at)),
            Some((first, at)) => {
                let found = format!("one more, at {}", fact.connected_at);
                self.note(Kind::ConnectedTwice, [first, sequence], format!("one, at {at}"), found);
            }
        }
    }

    fn tick(&mut self, sequence: u64, tick: &Tick, terms: &FleetTerms) {
        match self.connected_at() {
            Some(at) if at != tick.connected_at => {
                let found = format!("{} in tick {}", tick.connected_at, tick.minute);
                self.note(Kind::Beginning, [sequence], format!("connectedAt {at}"), found);
            }
            None if !self.unconnected => {
                self.unconnected = true;
                let found = format!("tick {}", tick.minute);
                self.note(Kind::TickUnconnected, [sequence], "no tick before rtp_detected", found);
            }
            _ => {}
        }
        let interval_ms = self.terms.as_ref().map_or(terms.interval_ms, |terms| terms.interval_ms);
        for (kind, expected, found) in self.minutes.add(tick, sequence, interval_ms) {
            self.note(kind, [sequence], expected, found);
        }
    }

    fn end(&mut self, sequence: u64, stored_at: Timestamp, fact: Ended) {
        if let Some((first, ended)) = &self.ended {
            let (first, expected) = (*first, format!("one, {}", ending(ended)));
            let found = format!("one more, {}", ending(&fact));
            return self.note(Kind::EndedTwice, [first, sequence], expected, found);
        }
        self.over_at.get_or_insert(stored_at);
        self.ended = Some((sequence, Box::new(fact)));
    }

    fn settle(&mut self, sequence: u64, stored_at: Timestamp, fact: Settled) {
        if let Some((first, settled)) = &self.settled {
            let (first, expected) = (*first, format!("one, billedMinutes {}", settled.billed_minutes));
            let found = format!("one more, billedMinutes {}", fact.billed_minutes);
            return self.note(Kind::SettledTwice, [first, sequence], expected, found);
        }
        self.over_at.get_or_insert(stored_at);
        self.settled = Some((sequence, Box::new(fact)));
    }

    /// When the call was connected: from `rtp_detected`, or from `ended` if there is none.
    pub(crate) fn connected_at(&self) -> Option<Timestamp> {
        let from_end = || self.ended.as_ref().and_then(|(_, ended)| ended.connected_at);
        self.connected.map(|(_, at)| at).or_else(from_end)
    }

    /// Checks a call that is over: all due ticks and the settlement must be stored.
    pub(crate) fn over(&self, terms: &FleetTerms) -> CheckResult {
        let mut checked = self.clone();
        let due = match (&self.ended, &self.settled) {
            (Some((_, ended)), settled) => {
                let due = self.due(ended.ended_at, terms);
                checked.check_connected_at();
                checked.check_clock();
                checked.missing(due);
                match settled {
                    Some((sequence, settled)) => checked.compare(ended, *sequence, settled, terms),
                    None => {
                        let last = self.ended.iter().map(|(sequence, _)| *sequence);
                        checked.note(Kind::NotSettled, last, "settled", "none");
                    }
                }
                due
            }
            (None, Some((sequence, settled))) => {
                let found = format!("settled, billedMinutes {}", settled.billed_minutes);
                checked.note(Kind::SettledWithoutEnd, [*sequence], "ended before it", found);
                settled.ticks
            }
            (None, None) => 0,
        };
        checked.result(due)
    }

    /// Checks a call that continued at `now`: all ticks due by then must be stored. Its bill belongs to a later window.
    pub(crate) fn running(&self, terms: &FleetTerms, now: Timestamp) -> CheckResult {
        let mut checked = self.clone();
        let until = self.ended.as_ref().map_or(now, |(_, ended)| ended.ended_at.min(now));
        let due = self.due(until, terms);
        checked.missing(due);
        if let (None, Some(max_ms)) = (&self.ended, terms.max_call_duration_ms) {
            let deadline = self.connected_at().unwrap_or(self.first_stored_at).plus_millis(max_ms);
            if deadline <= now {
                let last = self.connected.map_or(self.first_sequence, |(sequence, _)| sequence);
                checked.note(Kind::NotEnded, [last], format!("ended by {deadline}"), "none");
            }
        }
        let missing: u32 = self.minutes.missing(due).into_iter().map(Missing::count).sum();
        CheckResult {
            settled: false,
            billed_minutes: 0,
            ticks_stored: due.saturating_sub(missing),
            ..checked.result(due)
        }
    }

    fn due(&self, until: Timestamp, terms: &FleetTerms) -> u32 {
        let duration_ms = self.connected_at().map_or(0, |at| until.millis_since(at));
        full_minutes(duration_ms, self.interval_ms(terms))
    }

    fn interval_ms(&self, fleet: &FleetTerms) -> u64 {
        match &self.terms {
            Some(terms) => terms.interval_ms,
            None => self.minutes.interval_ms(fleet.interval_ms),
        }
    }

    /// `ended` may lack a `connectedAt`, but one that is present must be correct.
    fn check_connected_at(&mut self) {
        let in_end = self
            .ended
            .as_ref()
            .and_then(|(sequence, ended)| Some((*sequence, ended.connected_at?)));
        let Some((sequence, in_end)) = in_end else { return };
        let expected = match self.connected {
            Some((_, at)) if at == in_end => return,
            Some((_, at)) => format!("connectedAt {at}"),
            None => "an rtp_detected".to_owned(),
        };
        self.note(Kind::Beginning, [sequence], expected, format!("{in_end} in ended"));
    }

    fn check_clock(&mut self) {
        let step = self
            .ended
            .as_ref()
            .and_then(|(sequence, ended)| Some((*sequence, ended.clock_step_ms?)));
        if let Some((sequence, step_ms)) = step
            && step_ms.unsigned_abs() >= MAX_CLOCK_STEP_MS
        {
            self.note(
                Kind::ClockStep,
                [sequence],
                "a clock that does not step",
                format!("{step_ms} ms"),
            );
        }
    }

    fn missing(&mut self, due: u32) {
        for missing in self.minutes.missing(due) {
            let (expected, found) = Missing::texts(missing);
            self.note(Kind::TickMissing, missing.sequence, expected, found);
        }
    }

    fn compare(&mut self, ended: &Ended, sequence: u64, settled: &Settled, terms: &FleetTerms) {
        let connected_at = self.connected_at();
        let elapsed_ms = connected_at.map_or(0, |at| ended.ended_at.millis_since(at));
        let duration_ms = connected_at.and(ended.duration_ms).unwrap_or(elapsed_ms);
        let ticks = full_minutes(elapsed_ms, self.interval_ms(terms));
        let (billed_ms, billed) = self.bill(ended, duration_ms, terms);
        let over = self.minutes.highest.saturating_sub(ticks);
        let time = |at: Option<Timestamp>| at.map_or_else(|| "null".to_owned(), |at| at.to_string());
        let mut fields = vec![
            ("connectedAt", time(connected_at), time(settled.connected_at)),
            ("endedAt", ended.ended_at.to_string(), settled.ended_at.to_string()),
            ("durationMs", duration_ms.to_string(), settled.duration_ms.to_string()),
            ("ticks", ticks.to_string(), settled.ticks.to_string()),
            ("billedMinutes", billed.to_string(), settled.billed_minutes.to_string()),
            (
                "reason",
                ended.reason.as_str().to_owned(),
                settled.reason.as_str().to_owned(),
            ),
        ];
        // Absent in the settlements of earlier versions.
        if let Some(found) = settled.billed_ms {
            fields.push(("billedMs", billed_ms.to_string(), found.to_string()));
        }
        if let Some(found) = settled.silent_ms {
            let silent = |party| self.silent_ms(&[party], ended).to_string();
            fields.push(("silentMs.user", silent(Role::User), found.user.to_string()));
            fields.push(("silentMs.otomo", silent(Role::Otomo), found.otomo.to_string()));
        }
        if settled.billed_ms.is_some() {
            let number = |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            fields.push(("untilMs", number(self.until_ms), number(settled.until_ms)));
            let terms = |terms: Option<&Terms>| terms.map_or_else(|| "null".to_owned(), shown);
            fields.push(("terms", terms(self.terms.as_deref()), terms(settled.terms.as_ref())));
        }
        for (field, expected, found) in fields {
            if expected != found {
                self.note(Kind::Settlement, [sequence], format!("{field} {expected}"), found);
            }
        }
        if over > settled.over_ticks {
            let expected = format!("no tick beyond {ticks} but the {} of overTicks", settled.over_ticks);
            let found = format!("ticks up to {}", self.minutes.highest);
            self.note(Kind::TickBeyondEnd, [sequence], expected, found);
        } else if over < settled.over_ticks {
            let found = settled.over_ticks.to_string();
            self.note(Kind::Settlement, [sequence], format!("overTicks {over}"), found);
        }
    }

    /// The billed time and minutes.
    fn bill(&self, ended: &Ended, duration_ms: u64, fleet: &FleetTerms) -> (u64, u32) {
        let rounded = |charge, billed_ms: u64, interval_ms: u64| {
            let (full, rest) = (billed_ms / interval_ms, billed_ms % interval_ms);
            let minutes = full + u64::from(charge == Charge::Start && rest > 0);
            u32::try_from(minutes).unwrap_or(u32::MAX)
        };
        let granted = |time: u64| self.until_ms.map_or(time, |until_ms| until_ms.min(time));
        let Some(terms) = &self.terms else {
            let billed_ms = granted(duration_ms);
            return (billed_ms, rounded(fleet.charge, billed_ms, self.interval_ms(fleet)));
        };
        let silent_parties: &[Role] = match terms.silence {
            SilenceRule::Bill => &[],
            SilenceRule::DeductOtomo => &[Role::Otomo],
            SilenceRule::DeductAny => &Role::BOTH,
        };
        let free_ms = self.silent_ms(silent_parties, ended).saturating_add(terms.free_ms);
        let mut billed_ms = granted(duration_ms).saturating_sub(free_ms);
        if self.connected_at().is_some() && billed_ms < terms.minimum_ms {
            billed_ms = granted(terms.minimum_ms).max(billed_ms);
        }
        (billed_ms, rounded(terms.charge, billed_ms, terms.interval_ms))
    }

    fn silent_ms(&self, parties: &[Role], ended: &Ended) -> u64 {
        let millis = |connected_at| self.silence.millis(parties, connected_at, ended.ended_at);
        self.connected_at().map_or(0, millis)
    }

    fn note(
        &mut self,
        kind: Kind,
        sequences: impl IntoIterator<Item = u64>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        if self.differences.len() >= MAX_DIFFERENCES {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        self.differences.push(Difference {
            kind,
            call_id: Some(self.parties.call_id.clone()),
            sequences: sequences.into_iter().collect(),
            expected: expected.into(),
            found: found.into(),
        });
    }

    fn result(self, ticks_due: u32) -> CheckResult {
        CheckResult {
            connected: self.connected_at().is_some(),
            settled: self.settled.is_some(),
            billed_minutes: self.settled.map_or(0, |(_, settled)| settled.billed_minutes),
            ticks_due,
            ticks_stored: self.minutes.stored,
            differences: self.differences,
            omitted: self.omitted,
        }
    }
}

fn shown(terms: &Terms) -> String {
    serde_json::to_string(terms).unwrap_or_default()
}

fn named(parties: &Parties) -> String {
    format!("{} and {}", parties.user_id, parties.otomo_id)
}

fn ending(ended: &Ended) -> String {
    format!("{} at {} by {}", ended.reason.as_str(), ended.ended_at, ended.by)
}
