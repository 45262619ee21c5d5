//! A call, folded from its facts.
//!
//! The order and number of repetitions of the facts do not matter. The last fact of each kind is therefore enough, except for RTP
//! losses: only one of the two parties' losses is among them.

use schemars::JsonSchema;
use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::views::history::Recorded;
use crate::wire::envelope::TraceParent;
use crate::wire::fact::{EndReason, Fact};
use crate::wire::id::WorkerId;
use crate::wire::party::{Parties, Role};
use crate::wire::time::Timestamp;

/// The state of a call.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    JsonSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CallState {
    /// Requested, and not answered yet.
    Ringing,
    /// Accepted by the otomo, without RTP yet.
    Accepted,
    /// The first RTP packet was received.
    Connected,
    /// Ended, and not settled yet.
    Ended,
    /// The settlement is stored.
    Settled,
}

impl CallState {
    /// All states, in order.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The serialised state.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the call has not ended.
    pub fn is_live(self) -> bool {
        self < Self::Ended
    }
}

/// The last tick of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct LastTick {
    /// Number of the complete minute: 1, 2, …
    pub minute: u32,
    /// When it was due.
    pub at: Timestamp,
}

/// The last stored change of a party's RTP: loss or return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaChange {
    /// Lost and not resumed.
    pub lost: bool,
    /// The last packet before the loss, or the first after it. If there was no packet, when that was declared a loss.
    pub at: Timestamp,
    /// Sequence of the fact.
    #[serde(skip)]
    pub sequence: u64,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallEnd {
    /// End of the call, as stored in `ended`.
    pub ended_at: Timestamp,
    /// Why the call ended.
    pub reason: EndReason,
    /// The party, process or operator that ended it; null if only the settlement was read.
    pub by: Option<String>,
}

/// The bill of a settled call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bill {
    /// Duration of the connection, in milliseconds.
    pub duration_ms: u64,
    /// Minutes that the user pays for.
    pub billed_minutes: u32,
    /// Ticks up to the end.
    pub ticks: u32,
    /// Ticks stored beyond the end, which are not billed.
    pub over_ticks: u32,
}

/// A call, folded from its facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// When it was requested.
    pub requested_at: Option<Timestamp>,
    /// When the otomo accepted it.
    pub accepted_at: Option<Timestamp>,
    /// The media-worker that hosts it.
    pub worker_id: Option<WorkerId>,
    /// When it was connected.
    pub connected_at: Option<Timestamp>,
    /// The party that sent the first packet.
    pub detected_from: Option<Role>,
    /// The last stored tick.
    pub last_tick: Option<LastTick>,
    /// The last change of the user's RTP; null without one.
    pub user_media: Option<MediaChange>,
    /// The last change of the otomo's RTP; null without one.
    pub otomo_media: Option<MediaChange>,
    /// How the call ended; null while it lives.
    pub end: Option<CallEnd>,
    /// The bill; null before the settlement.
    pub bill: Option<Bill>,
    /// The trace of the first fact that was read.
    pub traceparent: TraceParent,
    /// Sequence of that fact.
    #[serde(skip)]
    first_sequence: u64,
}

impl CallView {
    /// The call after one fact.
    pub fn new(fact: &Fact, sequence: u64, trace: TraceParent) -> Self {
        let mut view = Self {
            first_sequence: sequence,
            ..Self::without_facts(fact.parties().clone(), trace)
        };
        view.apply(fact, sequence, trace);
        view
    }

    /// A call without facts.
    pub fn without_facts(parties: Parties, trace: TraceParent) -> Self {
        Self {
            parties,
            requested_at: None,
            accepted_at: None,
            worker_id: None,
            connected_at: None,
            detected_from: None,
            last_tick: None,
            user_media: None,
            otomo_media: None,
            end: None,
            bill: None,
            traceparent: trace,
            first_sequence: u64::MAX,
        }
    }

    /// The call after the stored facts of one call; `None` if none was decoded. Facts of other calls are ignored.
    pub fn of<'a>(facts: impl IntoIterator<Item = &'a Recorded>) -> Option<Self> {
        let mut view: Option<Self> = None;
        for recorded in facts {
            if let Ok(fact) = &recorded.fact {
                match &mut view {
                    Some(view) => view.apply(fact, recorded.sequence, recorded.trace),
                    None => view = Some(Self::new(fact, recorded.sequence, recorded.trace)),
                }
            }
        }
        view
    }

    /// Applies a fact. A fact of another call changes nothing.
    pub fn apply(&mut self, fact: &Fact, sequence: u64, trace: TraceParent) {
        if *fact.parties() != self.parties {
            return;
        }
        if sequence < self.first_sequence {
            (self.first_sequence, self.traceparent) = (sequence, trace);
        }
        let occurred_at = fact.occurred_at();
        match fact {
            Fact::Requested(fact) => self.requested_at = Some(fact.requested_at),
            Fact::Accepted(fact) => {
                self.accepted_at = Some(fact.accepted_at);
                self.worker_id = Some(fact.worker_id.clone());
            }
            Fact::RtpDetected(fact) => {
                self.connected_at = Some(fact.connected_at);
                self.detected_from = Some(fact.detected_from);
            }
            Fact::MediaStarted(_) => {}
            Fact::RtpLost(fact) => self.media(fact.party, true, occurred_at, sequence),
            Fact::RtpResumed(fact) => self.media(fact.party, false, fact.at, sequence),
            Fact::CreditGranted(_) | Fact::CreditLow(_) => {}
            Fact::Tick(fact) => {
                let tick = LastTick {
                    minute: fact.minute,
                    at: fact.at,
                };
                self.last_tick = self.last_tick.max(Some(tick));
            }
            Fact::Ended(fact) => {
                self.end = Some(CallEnd {
                    ended_at: fact.ended_at,
                    reason: fact.reason,
                    by: Some(fact.by.clone()),
                });
            }
            Fact::Settled(fact) => {
                self.bill = Some(Bill {
                    duration_ms: fact.duration_ms,
                    billed_minutes: fact.billed_minutes,
                    ticks: fact.ticks,
                    over_ticks: fact.over_ticks,
                });
                self.end.get_or_insert(CallEnd {
                    ended_at: fact.ended_at,
                    reason: fact.reason,
                    by: None,
                });
            }
        }
    }

    fn media(&mut self, party: Role, lost: bool, at: Timestamp, sequence: u64) {
        let known = match party {
            Role::User => &mut self.user_media,
            Role::Otomo => &mut self.otomo_media,
        };
        if known.is_none_or(|known| known.sequence <= sequence) {
            *known = Some(MediaChange { lost, at, sequence });
        }
    }

    /// Its state. A settled call counts as ended even if `ended` was not read.
    pub fn state(&self) -> CallState {
        match (&self.bill, &self.end) {
            (Some(_), _) => CallState::Settled,
            (None, Some(_)) => CallState::Ended,
            _ if self.connected_at.is_some() => CallState::Connected,
            _ if self.accepted_at.is_some() => CallState::Accepted,
            _ => CallState::Ringing,
        }
    }

    /// When it entered this state; `None` if that fact was not read.
    pub fn since(&self) -> Option<Timestamp> {
        match self.state() {
            CallState::Ringing => self.requested_at,
            CallState::Accepted => self.accepted_at,
            CallState::Connected => self.connected_at,
            CallState::Ended | CallState::Settled => self.end.as_ref().map(|end| end.ended_at),
        }
    }

    /// The last change of a party's RTP.
    pub fn media_of(&self, party: Role) -> Option<MediaChange> {
        match party {
            Role::User => self.user_media,
            Role::Otomo => self.otomo_media,
        }
    }
}

#[cfg(test)]
mod tests;
