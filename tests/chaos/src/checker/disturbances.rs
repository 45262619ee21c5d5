//! Where something was overdue: what recovery is measured by.

use std::collections::HashMap;

use super::history::{Call, Calls};
use super::notice_delivery::{Delivery, learnt};
use super::received::{Message, PartyMessagesById};
use super::times::Times;
use crate::records::run_log::{Attempt, Entries};
use crate::records::timestamp::Timestamp;
use crate::report::recovery::Disturbance;

/// What is this late is overdue.
const OVERDUE_MS: i64 = 1_000;

/// All of a run.
pub(super) fn gather(
    calls: &Calls,
    listeners: &PartyMessagesById<'_>,
    entries: &Entries,
    times: &Times<'_>,
) -> Vec<Disturbance> {
    let mut found = Vec::new();
    for (id, call) in calls {
        found.extend(overdue_facts(id, call));
        found.extend(overdue_news(id, call, listeners, times));
        found.extend(lost_worker(id, call));
    }
    for (party, listener) in listeners {
        found.extend(overdue_ticks(party, listener, times));
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

/// Stored long after they were due: ticks, the connection, the settlement.
fn overdue_facts(id: &str, call: &Call) -> Vec<Disturbance> {
    let end = call.ended.first();
    let detected = call.detected.iter().filter_map(|fact| {
        overdue(
            format!("{id}: connection stored"),
            fact.said.connected_at,
            fact.stored_at,
        )
    });
    let ticks = call.ticks.iter().filter_map(|fact| {
        overdue(
            format!("{id}: tick {} stored", fact.said.minute),
            fact.said.at,
            fact.stored_at,
        )
    });
    let settled = end.zip(call.settled.first());
    let settled = settled
        .and_then(|(end, settled)| overdue(format!("{id}: settlement stored"), end.stored_at, settled.stored_at));
    detected.chain(ticks).chain(settled).collect()
}

/// ReceivedMessage long after it was stored, to a party that was there all the time.
fn overdue_news(id: &str, call: &Call, listeners: &PartyMessagesById<'_>, times: &Times<'_>) -> Vec<Disturbance> {
    let mut found = Vec::new();
    for (news, stored_at, _) in call.news() {
        for (_, party) in call.parties() {
            let Some(listener) = listeners.get(party) else { continue };
            let (Delivery::ReceivedMessage(at) | Delivery::Resynchronised(at) | Delivery::Overtaken(at)) =
                learnt(news, id, call, stored_at, listener)
            else {
                continue;
            };
            if times.is_connected(party, stored_at) && !times.was_away(party, stored_at, at) {
                found.extend(overdue(format!("{id}: {news:?} told to {party}"), stored_at, at));
            }
        }
    }
    found
}

/// From its worker's last sign of life until its end is stored.
fn lost_worker(id: &str, call: &Call) -> Option<Disturbance> {
    let ended = call.ended.first().filter(|ended| ended.said.reason == "worker_lost")?;
    let worker = call.accepted.first().map(|accepted| accepted.said.worker_id.clone());
    Some(Disturbance {
        what: format!("{id}: worker lost"),
        target: worker,
        since: ended.said.ended_at,
        failed_at: None,
        until: Some(ended.stored_at),
    })
}

/// Minutes that a party was told of late though it was there. One that it heard of only after a later minute, or after the end,
/// was made up for by that.
fn overdue_ticks(party: &str, listener: &super::received::PartyMessages, times: &Times<'_>) -> Vec<Disturbance> {
    let (mut known, mut found) = (HashMap::<_, Vec<(u64, Timestamp)>>::new(), Vec::new());
    for heard in &listener.heard {
        let (call_id, minute) = match &heard.word {
            Message::Tick(tick) => (&tick.call_id, tick.minute),
            Message::Ended(ended) => (&ended.call_id, u64::MAX),
            Message::CallSnapshot(Some(standing)) => match &standing.last_tick {
                Some(last) => (&standing.call_id, last.minute),
                None => continue,
            },
            _ => continue,
        };
        let known = known.entry(call_id).or_default();
        if let Message::Tick(tick) = &heard.word {
            let before = known.iter().find(|(known, _)| *known >= minute);
            let until = before.map_or(heard.at, |(_, at)| *at);
            if times.is_connected(party, tick.at) && !times.was_away(party, tick.at, until) {
                let what = format!("{call_id}: tick {minute} told to {party}");
                found.extend(overdue(what, tick.at, until));
            }
        }
        known.push((minute, heard.at));
    }
    found
}

/// From the beginning of each that fails until, after its failure, that step succeeds for anybody, or any step for that
/// party: when a party takes the same step again is its plan's affair. Who stays without a connection, a tick or an end
/// meanwhile is seen by that.
fn failed_attempts(attempts: &[Attempt]) -> Vec<Disturbance> {
    let mut attempts: Vec<&Attempt> = attempts.iter().collect();
    attempts.sort_by_key(|attempt| attempt.at);
    let (mut of_step, mut of_party) = (HashMap::new(), HashMap::new());
    let mut found = Vec::new();
    // From the end, so that the next success is known.
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
