//! The minutes of one call: due, stored, and settled.
//!
//! The rules are those of the specification, implemented again: tick n is due at `connectedAt` + n × interval, up to and including
//! `endedAt`, and by default a minute is billed when it is full.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::CLOCK_MS;
use super::history::{Call, Detected, Ended, Fact, Settled};
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// The missing ticks that a finding lists.
const MOST_NAMED: usize = 8;

/// Checks the minutes of one call.
pub(super) fn check(id: &str, call: &Call, interval_ms: i64, report: &mut Report) {
    report.ticks.stored += call.ticks.len() as u64;
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
            duration_ms,
            due,
            beyond,
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
        if fact.stored_at < due.plus_ms(-CLOCK_MS) {
            report.ticks.early += 1;
            let text = format!("tick {minute} stored at {}, due at {due}", fact.stored_at);
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
    duration_ms: i64,
    due: u64,
    beyond: u64,
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
    compare("durationMs", &payload.duration_ms, &expected.duration_ms);
    compare("ticks", &payload.ticks, &expected.due);
    compare("billedMinutes", &payload.billed_minutes, &expected.due);
    compare("reason", &payload.reason, &ended.reason);
    // A lower value is a finding about the ticks beyond the end.
    if payload.over_ticks > expected.beyond {
        compare("overTicks", &payload.over_ticks, &expected.beyond);
    }
}

fn or_never(timestamp: Option<Timestamp>) -> String {
    timestamp.map_or_else(|| "never".to_owned(), |timestamp| timestamp.to_string())
}
