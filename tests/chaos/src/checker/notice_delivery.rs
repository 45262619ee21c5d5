//! Whether each party got to know that its call began, and that it is over.
//!
//! A notice may be lost with what carried it; then the party must be told where it stands (`welcome`, `snapshot`). The services
//! have time for that while something is broken or the party has no connection, and [`CALM_MS`] once neither is so.

use super::CALM_MS;
use super::history::Call;
use super::received::{Message, PartyMessages};
use super::times::Times;
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// Who is told this much too early was told, too; that it was too early is found elsewhere.
const EARLY_MS: i64 = 1_000;

/// How a party got to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// By the notice.
    ReceivedMessage(Timestamp),
    /// By `welcome` or `snapshot`.
    Resynchronised(Timestamp),
    /// That it began: only by hearing that it is over.
    Overtaken(Timestamp),
    /// Not at all.
    Never,
}

/// What a party must get to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Milestone {
    /// The call began.
    Connected,
    /// The call is over.
    Ended,
}

/// Judges what one party got to know of one of its calls.
pub(super) fn judge(
    id: &str,
    call: &Call,
    party: &str,
    listener: Option<&PartyMessages>,
    times: &Times<'_>,
    report: &mut Report,
) {
    for (news, stored_at, sequence) in call.news() {
        let learnt = listener.map_or(Delivery::Never, |listener| learnt(news, id, call, stored_at, listener));
        let by = match learnt {
            Delivery::ReceivedMessage(at) | Delivery::Resynchronised(at) | Delivery::Overtaken(at) => Some(at),
            Delivery::Never => None,
        };
        let until = by.unwrap_or(times.over_at);
        let calm = times.calm(party, stored_at, until, CALM_MS);
        let late = |at| format!("{party} learnt at {at} of what was stored {stored_at}, in spite of calm ({news:?})");
        match (learnt, calm) {
            (Delivery::Never, true) => {
                report.telling.not_told += 1;
                let text = format!("{party} never got to know ({news:?}), stored {stored_at}");
                report.find(Check::NotTold, id, &[sequence], text);
            }
            (Delivery::Never, false) if !times.is_connected(party, times.over_at) => report.telling.cut_off += 1,
            (Delivery::Never, false) => {
                report.telling.undecided += 1;
                let text = format!("{party} did not get to know ({news:?}), and there was no calm until the end");
                report.find(Check::Undecided, id, &[sequence], text);
            }
            (Delivery::ReceivedMessage(at) | Delivery::Resynchronised(at) | Delivery::Overtaken(at), true) => {
                report.telling.late += 1;
                report.find(Check::ToldLate, id, &[sequence], late(at));
            }
            (Delivery::ReceivedMessage(_), false) => report.telling.told += 1,
            (Delivery::Resynchronised(_), false) => report.telling.resynchronised += 1,
            (Delivery::Overtaken(_), false) => report.telling.overtaken += 1,
        }
    }
}

/// How and when a party got to know: by whichever came first, and by the notice if there was one.
pub(super) fn learnt(
    news: Milestone,
    id: &str,
    call: &Call,
    stored_at: Timestamp,
    listener: &PartyMessages,
) -> Delivery {
    let heard = listener.since(stored_at.plus_ms(-EARLY_MS));
    let told = heard.iter().position(|heard| match (&heard.word, news) {
        (Message::Connected(told), Milestone::Connected) => told.call_id == id,
        (Message::Ended(told), Milestone::Ended) => told.call_id == id,
        _ => false,
    });
    let (before, told) = heard.split_at(told.unwrap_or(heard.len()));
    let stands = before.iter().find(|heard| match (&heard.word, news) {
        (Message::CallSnapshot(Some(told)), Milestone::Connected) => told.call_id == id && told.connected_at.is_some(),
        (Message::CallSnapshot(told), Milestone::Ended) => {
            heard.at >= stored_at && told.as_ref().is_none_or(|told| told.call_id != id)
        }
        _ => false,
    });
    match (told.first(), stands) {
        (Some(told), stands) => return Delivery::ReceivedMessage(stands.unwrap_or(told).at),
        (None, Some(stands)) => return Delivery::Resynchronised(stands.at),
        (None, None) => {}
    }
    let end = match (news, call.ended.first()) {
        (Milestone::Connected, Some(ended)) => learnt(Milestone::Ended, id, call, ended.stored_at, listener),
        _ => Delivery::Never,
    };
    match end {
        Delivery::ReceivedMessage(at) | Delivery::Resynchronised(at) => Delivery::Overtaken(at.max(stored_at)),
        Delivery::Overtaken(_) | Delivery::Never => Delivery::Never,
    }
}

impl Call {
    /// What its parties must get to know: since when, and the sequence of the fact.
    pub(super) fn news(&self) -> impl Iterator<Item = (Milestone, Timestamp, u64)> {
        let connected = self.detected.first();
        let connected = connected.map(|fact| (Milestone::Connected, fact.stored_at, fact.sequence));
        let ended = self
            .ended
            .first()
            .map(|fact| (Milestone::Ended, fact.stored_at, fact.sequence));
        connected.into_iter().chain(ended)
    }
}
