//! One call reconstructed from its stored facts, and the differences between them.
//!
//! The first fact of a kind counts; every later one is a difference. Due ticks and bills are computed from the call's terms, or
//! from the fleet's settings if its facts have none, without code shared with the ticker.

mod checks;

use std::collections::HashSet;
use std::sync::Arc;

use contract::wire::fact::{Ended, RtpDetected, Settled, Tick};
use contract::wire::terms::Terms;
use contract::{Fact, FactKind, Parties, Timestamp};

use super::difference::{Difference, Kind};
use super::minutes::Minutes;
use super::silence::Silence;
use crate::domain::terms::DefaultTerms;

pub(crate) use checks::CheckResult;

/// Different terms that open calls share; further ones are kept by each call.
const MAX_SHARED: usize = 4_096;

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

/// Keeps one copy of each distinct value of the terms.
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
    pub(crate) fn take(&mut self, seen: SeenFact, defaults: &DefaultTerms, shared: &mut SharedTerms) {
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
            Fact::Requested(fact) => fact.grant.as_ref().map(|grant| grant.until_ms),
            Fact::CreditGranted(fact) => Some(fact.until_ms),
            _ => None,
        };
        self.until_ms = self.until_ms.max(until_ms);
        match fact {
            Fact::RtpDetected(fact) => self.connect(sequence, &fact),
            Fact::RtpLost(fact) => self.silence.lost(fact.party, fact.last_rtp_at),
            Fact::RtpResumed(fact) => self.silence.resumed(fact.party, fact.at),
            Fact::Tick(fact) => self.tick(sequence, &fact, defaults),
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

    fn tick(&mut self, sequence: u64, tick: &Tick, terms: &DefaultTerms) {
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
