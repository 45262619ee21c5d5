//! Whether the notices are true, and follow their facts.

use super::CLOCK_MS;
use super::history::{self, Call, Calls, Fact};
use super::received::{CallSnapshot, Ended, Media, Message, PartyMessages, Received, Response, Tick};
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// Checks the messages of one party.
pub(super) fn check(party: &str, messages: &PartyMessages, calls: &Calls, report: &mut Report) {
    for received in &messages.messages {
        let Some(id) = received.message.call_id() else { continue };
        let Some(call) = calls.get(id) else {
            let text = format!(
                "{party} received a message about a call that is not stored: {:?}",
                received.message
            );
            report.find(Check::FalseNotice, id, &[], text);
            continue;
        };
        if !call.parties().contains(&(messages.role, party)) {
            let text = format!(
                "{party} received a message about the call of others: {:?}",
                received.message
            );
            report.find(Check::MisdirectedNotice, id, &[], text);
        }
        match supporting_fact(received, call) {
            None => {
                let text = format!(
                    "{party} received a message that contradicts the facts: {:?}",
                    received.message
                );
                report.find(Check::FalseNotice, id, &[], text);
            }
            Some((sequence, stored_at)) if stored_at > received.at.plus_ms(CLOCK_MS) => {
                let text = format!(
                    "{party} received it at {}, stored at {stored_at}: {:?}",
                    received.at, received.message
                );
                report.find(Check::EarlyNotice, id, &[sequence], text);
            }
            Some(_) => {}
        }
    }
}

/// The sequence and the time of a stored fact.
type StoredFact = (u64, Timestamp);

/// The latest of the facts that a message follows from. None: it is false.
fn supporting_fact(received: &Received, call: &Call) -> Option<StoredFact> {
    match &received.message {
        Message::Incoming(incoming) if incoming.user_id == call.user_id => call.requested.first().map(stored_fact),
        Message::Incoming(_) => None,
        Message::Accepted(accepted) => {
            let same = |fact: &&Fact<history::Accepted>| fact.payload.accepted_at == accepted.accepted_at;
            let parties = (&accepted.user_id, &accepted.otomo_id) == (&call.user_id, &call.otomo_id);
            call.accepted.iter().find(same).filter(|_| parties).map(stored_fact)
        }
        Message::Connected(connected) => {
            let parties = (&connected.user_id, &connected.otomo_id) == (&call.user_id, &call.otomo_id);
            let is_so = parties && connected.method == "sfu_rtp_detected";
            call.connected(connected.connected_at).filter(|_| is_so)
        }
        Message::Tick(Tick {
            minute,
            at,
            connected_at,
            ..
        }) => call.tick(*minute, *at, Some(*connected_at)),
        Message::MediaLost(media) => last_of(&call.lost, media, received.at),
        Message::MediaResumed(media) => last_of(&call.resumed, media, received.at),
        Message::Ended(ended) => call.matching_settlement(ended).or_else(|| call.matching_end(ended)),
        Message::CallSnapshot(Some(snapshot)) => call.matching_snapshot(snapshot),
        Message::CallSnapshot(None) => None,
        Message::Response(response) => call.matching_response(response),
    }
}

fn stored_fact<T>(fact: &Fact<T>) -> StoredFact {
    (fact.sequence, fact.stored_at)
}

/// The notice has nothing but the party to find its fact.
fn last_of(facts: &[Fact<history::Media>], media: &Media, received_at: Timestamp) -> Option<StoredFact> {
    let mut of_party = facts
        .iter()
        .filter(|fact| fact.payload.party == media.party)
        .map(stored_fact);
    let before = of_party.clone().rfind(|(_, stored_at)| *stored_at <= received_at);
    before.or_else(|| of_party.next())
}

impl Call {
    fn connected(&self, at: Timestamp) -> Option<StoredFact> {
        let mut detected = self.detected.iter();
        detected.find(|fact| fact.payload.connected_at == at).map(stored_fact)
    }

    fn tick(&self, minute: u64, at: Timestamp, connected_at: Option<Timestamp>) -> Option<StoredFact> {
        let same = |fact: &&Fact<history::Tick>| {
            let tick = &fact.payload;
            (tick.minute, tick.at) == (minute, at) && connected_at.is_none_or(|known| known == tick.connected_at)
        };
        self.ticks.iter().find(same).map(stored_fact)
    }

    /// The end of a connected call has its bill.
    fn matching_settlement(&self, notice: &Ended) -> Option<StoredFact> {
        let same = |fact: &&Fact<history::Settled>| {
            let settled = &fact.payload;
            settled.connected_at.is_some()
                && (settled.ended_at, &settled.reason) == (notice.ended_at, &notice.reason)
                && (settled.duration_ms, settled.billed_minutes) == (notice.duration_ms, notice.billed_minutes)
        };
        self.settled.iter().find(same).map(stored_fact)
    }

    /// The end of an unconnected call has zeros.
    fn matching_end(&self, notice: &Ended) -> Option<StoredFact> {
        let same = |fact: &&Fact<history::Ended>| {
            let ended = &fact.payload;
            ended.connected_at.is_none()
                && (ended.ended_at, &ended.reason) == (notice.ended_at, &notice.reason)
                && (notice.duration_ms, notice.billed_minutes) == (0, 0)
        };
        self.ended.iter().find(same).map(stored_fact)
    }

    fn matching_snapshot(&self, snapshot: &CallSnapshot) -> Option<StoredFact> {
        let parties = (&snapshot.user_id, &snapshot.otomo_id) == (&self.user_id, &self.otomo_id);
        let state = match (snapshot.accepted_at, snapshot.connected_at) {
            (_, Some(_)) => "connected",
            (Some(_), None) => "accepted",
            (None, None) => "ringing",
        };
        if !parties || snapshot.state != state {
            return None;
        }
        let mut latest = self.requested.first().map(stored_fact)?;
        if let Some(at) = snapshot.accepted_at {
            let mut accepted = self.accepted.iter();
            latest = latest.max(accepted.find(|fact| fact.payload.accepted_at == at).map(stored_fact)?);
        }
        if let Some(at) = snapshot.connected_at {
            latest = latest.max(self.connected(at)?);
        }
        if let Some(tick) = &snapshot.last_tick {
            latest = latest.max(self.tick(tick.minute, tick.at, snapshot.connected_at)?);
        }
        Some(latest)
    }

    fn matching_response(&self, response: &Response) -> Option<StoredFact> {
        let mut latest = self.requested.first().map(stored_fact)?;
        if let Some(at) = response.accepted_at {
            let mut accepted = self.accepted.iter();
            latest = latest.max(accepted.find(|fact| fact.payload.accepted_at == at).map(stored_fact)?);
        }
        if let Some(at) = response.ended_at {
            let mut ended = self.ended.iter();
            latest = latest.max(ended.find(|fact| fact.payload.ended_at == at).map(stored_fact)?);
        }
        Some(latest)
    }
}
