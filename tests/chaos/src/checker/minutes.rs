//! The minutes of one call: due, stored, and settled.
//!
//! The rules are those of the specification, implemented again: tick n is due at `connectedAt` + n × interval, up to and including
//! `endedAt`. The bill follows from the call's terms, its duration, its silence and its grants. A call without terms is billed for its
//! full minutes.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::CLOCK_MS;
use super::history::{Call, Detected, Ended, Fact, Media, Settled};
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// The missing ticks that a finding lists.
const MOST_NAMED: usize = 8;

/// Checks the minutes of one call.
pub(super) fn check(id: &str, call: &Call, interval_ms: i64, report: &mut Report) {
    report.ticks.stored += call.ticks.len() as u64;
    let terms = call.requested.first().and_then(|fact| fact.payload.terms.as_ref());
    let interval_ms = terms.map_or(interval_ms, |terms| terms.interval_ms);
    let detected = call.detected.first();
    check_ticks(
        id,
        call,
        detected.map(|fact| fact.payload.connected_at),
        interval_ms,
        report,
    );
    let minutes = by_number(id, call, report);
    let Some(ended) = call.ended.first() else {
        // The missing end is a finding already. The stored ticks must have no gap.
        let last = minutes.last_key_value().map_or(0, |(minute, _)| *minute);
        missing(id, last, &minutes, report);
        return;
    };
    let duration_ms = duration_ms(detected, ended);
    let due = full_minutes(duration_ms, interval_ms);
    report.ticks.due += due;
    missing(id, due, &minutes, report);
    let beyond = minutes.range(due + 1..).count() as u64;
    if let Some(settled) = call.settled.first() {
        let expected = Expected {
            connected_at: expected_connected_at(detected, ended, settled),
            due,
            beyond,
            bill: bill(call, detected, ended, settled.sequence, interval_ms),
            terms: terms.map_or_else(|| "none".to_owned(), |terms| format!("{terms:?}")),
        };
        settlement(id, ended, settled, &expected, report);
    }
    let announced = call.settled.first().map_or(0, |settled| settled.payload.over_ticks);
    report.ticks.beyond_announced += beyond.min(announced);
    if beyond > announced {
        report.ticks.beyond_unannounced += beyond - announced;
        let sequences: Vec<u64> = minutes.range(due + 1..).map(|(_, sequence)| *sequence).collect();
        let text = format!("{beyond} ticks beyond the end, settled with {announced}");
        report.find(Check::BeyondEnd, id, &sequences, text);
    }
}

/// The duration of a call: 0 if it was not connected, or connected after its end.
fn duration_ms(detected: Option<&Fact<Detected>>, ended: &Fact<Ended>) -> i64 {
    detected.map_or(0, |detected| {
        ended.payload.ended_at.ms_since(detected.payload.connected_at).max(0)
    })
}

fn full_minutes(duration_ms: i64, interval_ms: i64) -> u64 {
    u64::try_from(duration_ms / interval_ms.max(1)).unwrap_or(0)
}

/// The `connectedAt` of the settlement. It lacks a connection that was stored after it. This is only valid if nothing is billed: a
/// lost worker is back, and stores a packet after its last heartbeat.
fn expected_connected_at(
    detected: Option<&Fact<Detected>>,
    ended: &Fact<Ended>,
    settled: &Fact<Settled>,
) -> Option<Timestamp> {
    let too_late =
        |fact: &&Fact<Detected>| fact.sequence > settled.sequence && fact.payload.connected_at > ended.payload.ended_at;
    detected
        .filter(|fact| !too_late(fact))
        .map(|fact| fact.payload.connected_at)
}

fn check_ticks(id: &str, call: &Call, connected_at: Option<Timestamp>, interval_ms: i64, report: &mut Report) {
    let mut before = 0;
    for fact in &call.ticks {
        let (tick, at) = (&fact.payload, [fact.sequence]);
        let minute = i64::try_from(tick.minute).unwrap_or(i64::MAX);
        if connected_at != Some(tick.connected_at) {
            report.ticks.wrong += 1;
            let text = format!(
                "tick {minute} has connectedAt {}, the call {}",
                tick.connected_at,
                or_never(connected_at)
            );
            report.find(Check::TickBeginning, id, &at, text);
        }
        let due = tick.connected_at.plus_ms(minute.saturating_mul(interval_ms));
        if minute < 1 || tick.at != due {
            report.ticks.wrong += 1;
            let text = format!("tick {minute} is at {}, due at {due}", tick.at);
            report.find(Check::TickTime, id, &at, text);
        }
        let due = call.true_time(due);
        if fact.stored_at < due.plus_ms(-CLOCK_MS) {
            report.ticks.early += 1;
            let text = format!(
                "tick {minute} stored at {}, due at {due} by a true clock",
                fact.stored_at
            );
            report.find(Check::TickEarly, id, &at, text);
        }
        if tick.minute < before {
            report.ticks.out_of_order += 1;
            report.find(Check::TickOrder, id, &at, format!("tick {minute} after tick {before}"));
        }
        before = tick.minute;
    }
}

/// Each minute with the sequence of its first tick. A second one is a finding.
fn by_number(id: &str, call: &Call, report: &mut Report) -> BTreeMap<u64, u64> {
    let mut minutes = BTreeMap::new();
    for fact in &call.ticks {
        let first = *minutes.entry(fact.payload.minute).or_insert(fact.sequence);
        if first != fact.sequence {
            report.ticks.doubled += 1;
            let text = format!("tick {} twice", fact.payload.minute);
            report.find(Check::TickDoubled, id, &[first, fact.sequence], text);
        }
    }
    minutes
}

fn missing(id: &str, due: u64, minutes: &BTreeMap<u64, u64>, report: &mut Report) {
    let stored = if due == 0 {
        0
    } else {
        minutes.range(1..=due).count() as u64
    };
    let missing = due.saturating_sub(stored);
    if missing == 0 {
        return;
    }
    report.ticks.missing += missing;
    let named: Vec<u64> = (1..=due)
        .filter(|minute| !minutes.contains_key(minute))
        .take(MOST_NAMED)
        .collect();
    let sequences: Vec<u64> = minutes.values().copied().collect();
    let text = format!("{missing} of {due} ticks are missing: {named:?}");
    report.find(Check::TickMissing, id, &sequences, text);
}

struct Expected {
    connected_at: Option<Timestamp>,
    due: u64,
    beyond: u64,
    bill: Bill,
    /// Of the request.
    terms: String,
}

/// What a call costs.
struct Bill {
    duration_ms: i64,
    silent_user_ms: i64,
    silent_otomo_ms: i64,
    until_ms: Option<i64>,
    billed_ms: i64,
    minutes: i64,
}

/// From the facts that were stored before the settlement.
fn bill(
    call: &Call,
    detected: Option<&Fact<Detected>>,
    ended: &Fact<Ended>,
    settled_at: u64,
    interval_ms: i64,
) -> Bill {
    let terms = call.requested.first().and_then(|fact| fact.payload.terms.as_ref());
    let first_grant = call.requested.first().and_then(|fact| fact.payload.until_ms);
    let later_grants = call.granted.iter().filter(|fact| fact.sequence < settled_at);
    let until_ms = later_grants.map(|fact| fact.payload.until_ms).chain(first_grant).max();
    let measured = detected.and(ended.payload.duration_ms);
    let duration_ms = measured.unwrap_or_else(|| duration_ms(detected, ended));
    let silent = |party: Option<&str>| {
        detected.map_or(0, |detected| {
            let span = (detected.payload.connected_at, ended.payload.ended_at);
            silent_ms(call, party, span, settled_at)
        })
    };
    let deducted = match terms.map(|terms| terms.silence.as_str()) {
        Some("deduct_otomo") => silent(Some("otomo")),
        Some("deduct_any") => silent(None),
        _ => 0,
    };
    let (free, minimum) = terms.map_or((0, 0), |terms| (terms.free_ms, terms.minimum_ms));
    let most = until_ms.unwrap_or(i64::MAX);
    let least = if detected.is_some() { minimum.min(most) } else { 0 };
    let billed_ms = (duration_ms.min(most) - deducted - free).max(0).max(least);
    let begun = i64::from(terms.is_some_and(|terms| terms.charge == "start") && billed_ms % interval_ms > 0);
    Bill {
        duration_ms,
        silent_user_ms: silent(Some("user")),
        silent_otomo_ms: silent(Some("otomo")),
        until_ms,
        billed_ms,
        minutes: billed_ms / interval_ms + begun,
    }
}

/// How long a party, or any of both, was silent.
fn silent_ms(call: &Call, party: Option<&str>, (from, to): (Timestamp, Timestamp), settled_at: u64) -> i64 {
    let length = to.ms_since(from).max(0);
    let offset = |at: Timestamp| at.ms_since(from).clamp(0, length);
    let mut silences = Vec::new();
    for name in ["user", "otomo"]
        .into_iter()
        .filter(|name| party.is_none_or(|party| party == *name))
    {
        let of_party = |fact: &&Fact<Media>| fact.payload.party == name && fact.sequence < settled_at;
        let lost = call
            .lost
            .iter()
            .filter(of_party)
            .map(|fact| (fact.sequence, fact.payload.at, true));
        let resumed = call
            .resumed
            .iter()
            .filter(of_party)
            .map(|fact| (fact.sequence, fact.payload.at, false));
        let mut changes: Vec<_> = lost.chain(resumed).collect();
        changes.sort_by_key(|(sequence, ..)| *sequence);
        let mut silent_from = None;
        for (_, at, is_lost) in changes {
            match silent_from {
                // Never heard: from the connection on.
                None if is_lost => silent_from = Some(at.map_or(0, offset)),
                Some(from) if !is_lost => {
                    silences.push((from, at.map_or(length, offset)));
                    silent_from = None;
                }
                _ => {}
            }
        }
        silences.extend(silent_from.map(|from| (from, length)));
    }
    silences.sort_unstable();
    let mut silent = 0;
    let mut reached = 0;
    for (start, end) in silences {
        silent += (end - start.max(reached)).max(0);
        reached = reached.max(end);
    }
    silent
}

fn settlement(id: &str, ended: &Fact<Ended>, settled: &Fact<Settled>, expected: &Expected, report: &mut Report) {
    let (ended, payload) = (&ended.payload, &settled.payload);
    let mut compare = |field: &str, found: &dyn Display, expected: &dyn Display| {
        let (found, expected) = (found.to_string(), expected.to_string());
        if found != expected {
            let text = format!("settled with {field} {found}, expected {expected}");
            report.find(Check::Settlement, id, &[settled.sequence], text);
        }
    };
    compare(
        "connectedAt",
        &or_never(payload.connected_at),
        &or_never(expected.connected_at),
    );
    compare("endedAt", &payload.ended_at, &ended.ended_at);
    compare("durationMs", &payload.duration_ms, &expected.bill.duration_ms);
    compare("ticks", &payload.ticks, &expected.due);
    let bill = &expected.bill;
    compare("billedMinutes", &payload.billed_minutes, &bill.minutes);
    // A record of an early version has none of these.
    if payload.billed_ms.is_some() || expected.terms != "none" {
        let some = |value: Option<i64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        compare("billedMs", &some(payload.billed_ms), &bill.billed_ms);
        compare("untilMs", &some(payload.until_ms), &some(bill.until_ms));
        let silent = payload.silent_ms.as_ref();
        compare(
            "silentMs.user",
            &some(silent.map(|silent| silent.user)),
            &bill.silent_user_ms,
        );
        compare(
            "silentMs.otomo",
            &some(silent.map(|silent| silent.otomo)),
            &bill.silent_otomo_ms,
        );
        let terms = payload.terms.as_ref();
        let terms = terms.map_or_else(|| "none".to_owned(), |terms| format!("{terms:?}"));
        compare("terms", &terms, &expected.terms);
    }
    compare("reason", &payload.reason, &ended.reason);
    // A lower value is a finding about the ticks beyond the end.
    if payload.over_ticks > expected.beyond {
        compare("overTicks", &payload.over_ticks, &expected.beyond);
    }
}

fn or_never(timestamp: Option<Timestamp>) -> String {
    timestamp.map_or_else(|| "never".to_owned(), |timestamp| timestamp.to_string())
}
