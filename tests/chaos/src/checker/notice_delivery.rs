//! Whether each party received the connection and the end of its calls.
//!
//! A connection may end with a notice in flight. The party then needs the state of its call (`welcome`, `snapshot`). The services
//! may be late while a fault is active or the party has no connection, and for [`NOTICE_DEADLINE_MS`] afterwards.

use super::NOTICE_DEADLINE_MS;
use super::history::Call;
use super::received::{Message, PartyMessages};
use super::times::Times;
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// A notice this much before its fact still counts as delivered. That it is early is a finding of its own.
const EARLY_MS: i64 = 1_000;

/// How a party was informed of a milestone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// By the notice.
    Notice(Timestamp),
    /// By `welcome` or `snapshot`.
    Resynchronised(Timestamp),
    /// Of the connection, by the end of the call.
    Overtaken(Timestamp),
    Never,
}

/// A fact of which both parties must be informed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Milestone {
    Connected,
    Ended,
}

impl Delivery {
    pub(super) fn at(self) -> Option<Timestamp> {
        match self {
            Self::Notice(at) | Self::Resynchronised(at) | Self::Overtaken(at) => Some(at),
            Self::Never => None,
        }
    }
}

/// Checks the deliveries to one party of a call.
pub(super) fn check(
    id: &str,
    call: &Call,
    party: &str,
    messages: Option<&PartyMessages>,
    times: &Times<'_>,
    report: &mut Report,
) {
    for (milestone, stored_at, sequence) in call.milestones() {
        let delivery = messages.map_or(Delivery::Never, |messages| {
            delivery(milestone, id, call, stored_at, messages)
        });
        let calm = times.calm(
            party,
            stored_at,
            delivery.at().unwrap_or(times.over_at),
            NOTICE_DEADLINE_MS,
        );
        match (delivery, calm) {
            (Delivery::Never, true) => {
                report.notices.missing += 1;
                let text = format!("{party} was never informed of {milestone:?}, stored at {stored_at}");
                report.find(Check::MissingNotice, id, &[sequence], text);
            }
            (Delivery::Never, false) if !times.is_connected(party, times.over_at) => report.notices.cut_off += 1,
            (Delivery::Never, false) => {
                report.notices.undecided += 1;
                let text = format!("{party} was not informed of {milestone:?}, and there was no calm until the end");
                report.find(Check::Undecided, id, &[sequence], text);
            }
            (Delivery::Notice(at) | Delivery::Resynchronised(at) | Delivery::Overtaken(at), true) => {
                report.notices.late += 1;
                let text =
                    format!("{party} was informed of {milestone:?} at {at}, stored at {stored_at}, despite calm");
                report.find(Check::LateNotice, id, &[sequence], text);
            }
            (Delivery::Notice(_), false) => report.notices.notified += 1,
            (Delivery::Resynchronised(_), false) => report.notices.resynchronised += 1,
            (Delivery::Overtaken(_), false) => report.notices.overtaken += 1,
        }
    }
}

/// How and when a party was informed: at the earliest message, which counts as the notice if that arrived too.
pub(super) fn delivery(
    milestone: Milestone,
    id: &str,
    call: &Call,
    stored_at: Timestamp,
    messages: &PartyMessages,
) -> Delivery {
    let received = messages.since(stored_at.plus_ms(-EARLY_MS));
    let notice = received
        .iter()
        .position(|received| match (&received.message, milestone) {
            (Message::Connected(notice), Milestone::Connected) => notice.call_id == id,
            (Message::Ended(notice), Milestone::Ended) => notice.call_id == id,
            _ => false,
        });
    let (before, notice) = received.split_at(notice.unwrap_or(received.len()));
    let snapshot = before.iter().find(|received| match (&received.message, milestone) {
        (Message::CallSnapshot(Some(call)), Milestone::Connected) => call.call_id == id && call.connected_at.is_some(),
        (Message::CallSnapshot(call), Milestone::Ended) => {
            received.at >= stored_at && call.as_ref().is_none_or(|call| call.call_id != id)
        }
        _ => false,
    });
    match (notice.first(), snapshot) {
        (Some(notice), snapshot) => return Delivery::Notice(snapshot.unwrap_or(notice).at),
        (None, Some(snapshot)) => return Delivery::Resynchronised(snapshot.at),
        (None, None) => {}
    }
    let end = match (milestone, call.ended.first()) {
        (Milestone::Connected, Some(ended)) => delivery(Milestone::Ended, id, call, ended.stored_at, messages),
        _ => Delivery::Never,
    };
    end.at()
        .map_or(Delivery::Never, |at| Delivery::Overtaken(at.max(stored_at)))
}

impl Call {
    /// Its milestones, each with the time and the sequence of its fact.
    pub(super) fn milestones(&self) -> impl Iterator<Item = (Milestone, Timestamp, u64)> {
        let connected = self.detected.first();
        let connected = connected.map(|fact| (Milestone::Connected, fact.stored_at, fact.sequence));
        let ended = self.ended.first();
        let ended = ended.map(|fact| (Milestone::Ended, fact.stored_at, fact.sequence));
        connected.into_iter().chain(ended)
    }
}
