//! Whether what parties were told is so, and was stored before they were told.

use super::CLOCK_MS;
use super::history::{self, Call, Calls, Fact};
use super::received::{CallSnapshot, Ended, Media, Message, PartyMessages, Received, Response, Tick};
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// Judges all that one party heard.
pub(super) fn judge(party: &str, listener: &PartyMessages, calls: &Calls, report: &mut Report) {
    for heard in &listener.heard {
        let Some(id) = heard.word.call_id() else { continue };
        let Some(call) = calls.get(id) else {
            let text = format!("{party} was told of a call that is not stored: {:?}", heard.word);
            report.find(Check::ToldUntrue, id, &[], text);
            continue;
        };
        if !call.parties().contains(&(listener.role, party)) {
            let text = format!("{party} is told of a call of others: {:?}", heard.word);
            report.find(Check::ToldStranger, id, &[], text);
        }
        match behind(heard, call) {
            None => {
                let text = format!("{party} was told what is not stored: {:?}", heard.word);
                report.find(Check::ToldUntrue, id, &[], text);
            }
            Some((sequence, stored_at)) if stored_at > heard.at.plus_ms(CLOCK_MS) => {
                let text = format!("{party} was told at {}, stored {stored_at}: {:?}", heard.at, heard.word);
                report.find(Check::ToldEarly, id, &[sequence], text);
            }
            Some(_) => {}
        }
    }
}

/// A stored fact: its sequence, and when it was stored.
type Behind = (u64, Timestamp);

/// The latest of the stored facts that make the message true, if it is true.
fn behind(heard: &Received, call: &Call) -> Option<Behind> {
    match &heard.word {
        Message::Incoming(incoming) if incoming.user_id == call.user_id => call.requested.first().map(place),
        Message::Incoming(_) => None,
        Message::Accepted(accepted) => {
            let same = |fact: &&Fact<history::Accepted>| fact.said.accepted_at == accepted.accepted_at;
            let parties = (&accepted.user_id, &accepted.otomo_id) == (&call.user_id, &call.otomo_id);
            call.accepted.iter().find(same).filter(|_| parties).map(place)
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
        Message::MediaLost(media) => last_of(&call.lost, media, heard.at),
        Message::MediaResumed(media) => last_of(&call.resumed, media, heard.at),
        Message::Ended(ended) => call.settled_so(ended).or_else(|| call.ended_so(ended)),
        Message::CallSnapshot(Some(standing)) => call.stands_so(standing),
        Message::CallSnapshot(None) => None,
        Message::Response(response) => call.answers_so(response),
    }
}

fn place<T>(fact: &Fact<T>) -> Behind {
    (fact.sequence, fact.stored_at)
}

/// There is no more to tell them apart by than whose media it is.
fn last_of(facts: &[Fact<history::Media>], media: &Media, told_at: Timestamp) -> Option<Behind> {
    let mut of_party = facts.iter().filter(|fact| fact.said.party == media.party).map(place);
    let before = of_party.clone().rfind(|(_, stored_at)| *stored_at <= told_at);
    before.or_else(|| of_party.next())
}

impl Call {
    fn connected(&self, at: Timestamp) -> Option<Behind> {
        let mut detected = self.detected.iter();
        detected.find(|fact| fact.said.connected_at == at).map(place)
    }

    fn tick(&self, minute: u64, at: Timestamp, connected_at: Option<Timestamp>) -> Option<Behind> {
        let same = |fact: &&Fact<history::Tick>| {
            let tick = &fact.said;
            (tick.minute, tick.at) == (minute, at) && connected_at.is_none_or(|known| known == tick.connected_at)
        };
        self.ticks.iter().find(same).map(place)
    }

    /// The end of a call that began is told with its bill.
    fn settled_so(&self, told: &Ended) -> Option<Behind> {
        let same = |fact: &&Fact<history::Settled>| {
            let settled = &fact.said;
            settled.connected_at.is_some()
                && (settled.ended_at, &settled.reason) == (told.ended_at, &told.reason)
                && (settled.duration_ms, settled.billed_minutes) == (told.duration_ms, told.billed_minutes)
        };
        self.settled.iter().find(same).map(place)
    }

    /// That of one that did not, with zeros.
    fn ended_so(&self, told: &Ended) -> Option<Behind> {
        let same = |fact: &&Fact<history::Ended>| {
            let ended = &fact.said;
            ended.connected_at.is_none()
                && (ended.ended_at, &ended.reason) == (told.ended_at, &told.reason)
                && (told.duration_ms, told.billed_minutes) == (0, 0)
        };
        self.ended.iter().find(same).map(place)
    }

    fn stands_so(&self, told: &CallSnapshot) -> Option<Behind> {
        let parties = (&told.user_id, &told.otomo_id) == (&self.user_id, &self.otomo_id);
        let state = match (told.accepted_at, told.connected_at) {
            (_, Some(_)) => "connected",
            (Some(_), None) => "accepted",
            (None, None) => "ringing",
        };
        if !parties || told.state != state {
            return None;
        }
        let mut latest = self.requested.first().map(place)?;
        if let Some(at) = told.accepted_at {
            let mut accepted = self.accepted.iter();
            latest = latest.max(accepted.find(|fact| fact.said.accepted_at == at).map(place)?);
        }
        if let Some(at) = told.connected_at {
            latest = latest.max(self.connected(at)?);
        }
        if let Some(tick) = &told.last_tick {
            latest = latest.max(self.tick(tick.minute, tick.at, told.connected_at)?);
        }
        Some(latest)
    }

    fn answers_so(&self, told: &Response) -> Option<Behind> {
        let mut latest = self.requested.first().map(place)?;
        if let Some(at) = told.accepted_at {
            let mut accepted = self.accepted.iter();
            latest = latest.max(accepted.find(|fact| fact.said.accepted_at == at).map(place)?);
        }
        if let Some(at) = told.ended_at {
            let mut ended = self.ended.iter();
            latest = latest.max(ended.find(|fact| fact.said.ended_at == at).map(place)?);
        }
        Some(latest)
    }
}
