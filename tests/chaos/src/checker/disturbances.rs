//! What was overdue. Recovery is measured by it.

use std::collections::HashMap;

use super::history::{Call, Calls};
use super::notice_delivery::delivery;
use super::received::{Message, MessagesByParty};
use super::times::Times;
use crate::records::run_log::{Attempt, Entries};
use crate::records::timestamp::Timestamp;
use crate::report::recovery::Disturbance;

/// The delay from which something is overdue.
const OVERDUE_MS: i64 = 1_000;

/// All disturbances of a run.
pub(super) fn gather(
    calls: &Calls,
    parties: &MessagesByParty<'_>,
    entries: &Entries,
    times: &Times<'_>,
) -> Vec<Disturbance> {
    let mut found = Vec::new();
    for (id, call) in calls {
        found.extend(overdue_facts(id, call));
        found.extend(overdue_notices(id, call, parties, times));
        found.extend(lost_worker(id, call));
    }
    for (party, messages) in parties {
        found.extend(overdue_ticks(party, messages, calls, times));
    }
    let outages = entries.outages.iter().enumerate();
    let suffered = outages.filter(|(place, _)| !entries.chosen.contains(place));
    found.extend(suffered.map(|(_, outage)| Disturbance {
        what: format!("{} had no connection", outage.party),
        target: None,
        since: outage.from.into(),
        failed_at: None,
        until: outage.until.map(Timestamp::from),
    }));
    found.extend(failed_attempts(&entries.attempts));
    found
}

fn overdue(what: String, since: Timestamp, until: Timestamp) -> Option<Disturbance> {
    (until.ms_since(since) > OVERDUE_MS).then_some(Disturbance {
        what,
        target: None,
        since,
        failed_at: None,
        until: Some(until),
    })
}

/// Facts that were stored late: ticks, the connection, the settlement.
fn overdue_facts(id: &str, call: &Call) -> Vec<Disturbance> {
    let end = call.ended.first();
    let detected = call.detected.iter().filter_map(|fact| {
        overdue(
            format!("{id}: connection stored"),
            call.true_time(fact.payload.connected_at),
            fact.stored_at,
        )
    });
    let ticks = call.ticks.iter().filter_map(|fact| {
        overdue(
            format!("{id}: tick {} stored", fact.payload.minute),
            call.true_time(fact.payload.at),
            fact.stored_at,
        )
    });
    let settled = end.zip(call.settled.first());
    let settled = settled
        .and_then(|(end, settled)| overdue(format!("{id}: settlement stored"), end.stored_at, settled.stored_at));
    detected.chain(ticks).chain(settled).collect()
}

/// Notices that a party received late although it was connected.
fn overdue_notices(id: &str, call: &Call, parties: &MessagesByParty<'_>, times: &Times<'_>) -> Vec<Disturbance> {
    let mut found = Vec::new();
    for (milestone, stored_at, _) in call.milestones() {
        for (_, party) in call.parties() {
            let Some(messages) = parties.get(party) else { continue };
            let Some(at) = delivery(milestone, id, call, stored_at, messages).at() else {
                continue;
            };
            if times.is_connected(party, stored_at) && !times.was_away(party, stored_at, at) {
                found.extend(overdue(
                    format!("{id}: {milestone:?} received by {party}"),
                    stored_at,
                    at,
                ));
            }
        }
    }
    found
}

/// From the last heartbeat of its worker until its end is stored.
fn lost_worker(id: &str, call: &Call) -> Option<Disturbance> {
    let ended = call
        .ended
        .first()
        .filter(|ended| ended.payload.reason == "worker_lost")?;
    let worker = call.accepted.first().map(|accepted| accepted.payload.worker_id.clone());
    Some(Disturbance {
        what: format!("{id}: worker lost"),
        target: worker,
        since: match ended.payload.connected_at {
            Some(_) => call.true_time(ended.payload.ended_at),
            None => ended.payload.ended_at,
        },
        failed_at: None,
        until: Some(ended.stored_at),
    })
}

/// Ticks that a party received late although it was connected. A later minute or the end makes up for a tick.
fn overdue_ticks(
    party: &str,
    messages: &super::received::PartyMessages,
    calls: &Calls,
    times: &Times<'_>,
) -> Vec<Disturbance> {
    let (mut known, mut found) = (HashMap::<_, Vec<(u64, Timestamp)>>::new(), Vec::new());
    for received in &messages.messages {
        let (call_id, minute) = match &received.message {
            Message::Tick(tick) => (&tick.call_id, tick.minute),
            Message::Ended(ended) => (&ended.call_id, u64::MAX),
            Message::CallSnapshot(Some(snapshot)) => match &snapshot.last_tick {
                Some(last) => (&snapshot.call_id, last.minute),
                None => continue,
            },
            _ => continue,
        };
        let known = known.entry(call_id).or_default();
        if let Message::Tick(tick) = &received.message {
            let before = known.iter().find(|(known, _)| *known >= minute);
            let until = before.map_or(received.at, |(_, at)| *at);
            let due = calls.get(call_id).map_or(tick.at, |call| call.true_time(tick.at));
            if times.is_connected(party, due) && !times.was_away(party, due, until) {
                let what = format!("{call_id}: tick {minute} received by {party}");
                found.extend(overdue(what, due, until));
            }
        }
        known.push((minute, received.at));
    }
    found
}

/// A failed attempt lasts from its beginning until that step succeeds for any party, or any step for that party: its plan decides
/// when a party repeats a step. A missing connection, tick or end is a disturbance of its own.
fn failed_attempts(attempts: &[Attempt]) -> Vec<Disturbance> {
    let mut attempts: Vec<&Attempt> = attempts.iter().collect();
    attempts.sort_by_key(|attempt| attempt.at);
    let (mut of_step, mut of_party) = (HashMap::new(), HashMap::new());
    let mut found = Vec::new();
    // In reverse, so that the next success is known.
    for attempt in attempts.into_iter().rev() {
        let (at, party) = (Timestamp::from(attempt.at), attempt.party.as_str());
        let Some(failed) = &attempt.failed else {
            of_step.insert(attempt.step, at);
            of_party.insert(party, at);
            continue;
        };
        let next = [of_step.get(attempt.step), of_party.get(party)];
        found.push(Disturbance {
            what: format!("{party}: {} failed: {failed}", attempt.step),
            target: None,
            since: attempt.began.into(),
            failed_at: Some(at),
            until: next.into_iter().flatten().min().copied(),
        });
    }
    found
}
