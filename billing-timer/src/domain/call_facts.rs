//! The facts of one call that its settlement follows from.

use contract::wire::fact::{Ended, Settled};
use contract::wire::terms::Terms;
use contract::{Fact, Role, Timestamp};

use super::last_tick::LastTick;

/// The facts of one call, read together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallFacts {
    /// The sequence of the last one of any kind.
    pub sequence: u64,
    /// `connectedAt` of the stored `rtp_detected`.
    pub connected_at: Option<Timestamp>,
    /// The last stored tick.
    pub tick: Option<LastTick>,
    /// The stored `ended`.
    pub ended: Option<Box<Ended>>,
    /// The stored `settled`.
    pub settled: Option<Box<Settled>>,
    /// The call's terms: those of its request count.
    pub terms: Option<Terms>,
    /// The duration that was granted, in milliseconds. A grant never shortens another one.
    pub until_ms: Option<u64>,
    /// When each party was silent.
    pub silences: Silences,
}

impl CallFacts {
    /// Adds a fact. The losses and returns of RTP come in stream order.
    pub fn add(&mut self, fact: Fact, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
        match fact {
            Fact::Requested(fact) => {
                self.grant(fact.grant.map(|grant| grant.until_ms));
                self.terms = fact.terms.or(self.terms.take());
            }
            Fact::CreditGranted(fact) => self.grant(Some(fact.until_ms)),
            Fact::RtpDetected(fact) => {
                self.connected_at = Some(fact.connected_at);
                self.terms = self.terms.take().or(fact.terms);
            }
            Fact::RtpLost(fact) => self.silences.lost(fact.party, fact.last_rtp_at),
            Fact::RtpResumed(fact) => self.silences.resumed(fact.party, fact.at),
            Fact::Tick(fact) => self.tick = Some(LastTick::new(&fact)),
            Fact::Ended(fact) => {
                self.terms = self.terms.take().or_else(|| fact.terms.clone());
                self.ended = Some(Box::new(fact));
            }
            Fact::Settled(fact) => self.settled = Some(Box::new(fact)),
            // The bill depends on no other fact.
            _ => {}
        }
    }

    fn grant(&mut self, until_ms: Option<u64>) {
        self.until_ms = self.until_ms.max(until_ms);
    }
}

/// When the parties were silent, from `rtp_lost` and `rtp_resumed`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Silences {
    user: Vec<SilentPeriod>,
    otomo: Vec<SilentPeriod>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SilentPeriod {
    /// The last packet; none if the party was never heard.
    from: Option<Timestamp>,
    /// The next packet; none if there was none.
    to: Option<Timestamp>,
}

/// Parts of a call, in milliseconds since it was connected.
type Spans = Vec<(u64, u64)>;

impl Silences {
    /// A party's RTP was lost.
    pub fn lost(&mut self, party: Role, last_rtp_at: Option<Timestamp>) {
        let silences = self.of_mut(party);
        // A second loss without a return is the same silence.
        if silences.last().is_none_or(|period| period.to.is_some()) {
            silences.push(SilentPeriod {
                from: last_rtp_at,
                to: None,
            });
        }
    }

    /// A party's RTP resumed.
    pub fn resumed(&mut self, party: Role, at: Timestamp) {
        if let Some(period) = self.of_mut(party).last_mut() {
            period.to.get_or_insert(at);
        }
    }

    /// How long any of these parties was silent, in milliseconds. Simultaneous silence counts once.
    pub fn silent_ms(&self, parties: &[Role], connected_at: Timestamp, ended_at: Timestamp) -> u64 {
        let offset = |at: Timestamp| at.min(ended_at).millis_since(connected_at);
        let silences = parties.iter().flat_map(|party| self.of(*party));
        let mut spans: Spans = silences
            .map(|period| (period.from.map_or(0, offset), offset(period.to.unwrap_or(ended_at))))
            .collect();
        spans.sort_unstable();
        let (mut total, mut counted_to) = (0, 0);
        for (from, to) in spans {
            total += to.saturating_sub(from.max(counted_to));
            counted_to = counted_to.max(to);
        }
        total
    }

    fn of(&self, party: Role) -> &[SilentPeriod] {
        match party {
            Role::User => &self.user,
            Role::Otomo => &self.otomo,
        }
    }

    fn of_mut(&mut self, party: Role) -> &mut Vec<SilentPeriod> {
        match party {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        }
    }
}
