//! The invariants, checked from the stream and the plan alone.
//!
//! - A call's ticks are minute 1, 2, … without gap or repetition, each with `at` = `connectedAt` + minute × interval, and all
//!   ticks due up to `endedAt` are stored: *missing* and *doubled* are 0.
//! - No tick is stored before the wall clock of its publisher has shown its time: *early* is 0. Ticks that are early because a
//!   clock is ahead are counted separately.
//! - There is one settlement, and each of its fields follows from the facts stored before it: start, end, duration, ticks,
//!   minutes, and the number of ticks beyond the end. So no tick is *beyond* the end without being reported, and no tick
//!   follows the settlement.
//! - A tick is stored within [`MAX_TICK_DELAY`] of its time, of the call's first fact, and of the last fault, whichever is
//!   latest.
//! - In the end `billing_active` is empty, and all tasks of all instances are ready.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::Timestamp;
use serde_json::Value;

use crate::core::Core;
use crate::core::server::stream::Stored;
use crate::report::Report;
use crate::time::timestamp;

/// The longest delay of a tick after the last fault.
pub(crate) const MAX_TICK_DELAY: Duration = Duration::from_secs(40);

/// Calls that are not settled and entries that are not removed.
pub(crate) fn unfinished(core: &Core) -> Vec<String> {
    let mut unfinished = Vec::new();
    for call in &core.plan.calls {
        if core.server.stream.last(&format!("call.{}.settled", call.id)) == 0 {
            unfinished.push(format!("{} is not settled", call.id));
        }
    }
    for (key, _) in core.server.active_billing.open_keys() {
        unfinished.push(format!("{key} is still in billing_active"));
    }
    unfinished
}

#[derive(Default)]
struct Record<'a> {
    ticks: Vec<(u64, &'a Stored, Value)>,
    detected: Option<(u64, &'a Stored, Value)>,
    ended: Option<(u64, &'a Stored, Value)>,
    settled: Vec<(u64, &'a Stored, Value)>,
}

pub(crate) fn check(core: &Core) -> Report {
    let mut report = Report {
        violations: core.violations.clone(),
        hash: core.hash(),
        ..Report::default()
    };
    let mut records: BTreeMap<&str, Record<'_>> = BTreeMap::new();
    for (sequence, stored) in (1..).zip(&core.server.stream.messages) {
        let mut tokens = stored.subject.split('.').skip(1);
        let (call, kind) = (tokens.next().unwrap(), tokens.next().unwrap());
        let fact = (sequence, stored, serde_json::from_slice(&stored.payload).unwrap());
        let record = records.entry(call).or_default();
        match kind {
            "tick" => record.ticks.push(fact),
            "rtp_detected" => record.detected = Some(fact),
            "ended" => record.ended = Some(fact),
            "settled" => record.settled.push(fact),
            other => report.violation(call, &format!("an unknown fact {other}")),
        }
    }
    for call in &core.plan.calls {
        report.calls += 1;
        match records.get(call.id.as_str()) {
            Some(record) => check_call(core, &call.id, record, &mut report),
            None => report.violations.push(format!("{}: no fact is stored", call.id)),
        }
    }
    report
}

fn check_call(core: &Core, call: &str, record: &Record<'_>, report: &mut Report) {
    let interval = core.plan.interval_ms;
    let Some((_, _, end)) = &record.ended else {
        return report.violation(call, "it has no end");
    };
    let (settled_at, settled) = match record.settled.as_slice() {
        [(sequence, _, settled)] => (*sequence, settled),
        all => return report.violation(call, &format!("it is settled {} times", all.len())),
    };
    let before = record.detected.as_ref().filter(|(sequence, ..)| *sequence < settled_at);
    let connected = match before {
        Some((.., detected)) => time(&detected["connectedAt"]),
        None => time(&end["connectedAt"]),
    };
    let ended = time(&end["endedAt"]).unwrap();
    let duration = connected.map_or(0, |connected| (ended.as_millis() - connected.as_millis()).max(0));
    let duration = u64::try_from(duration).unwrap();
    let due = duration / interval;
    let billed = if core.plan.charged_at_start {
        duration.div_ceil(interval)
    } else {
        due
    };
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut announced, mut unannounced) = (0, 0);
    for (sequence, stored, tick) in &record.ticks {
        let minute = tick["minute"].as_u64().unwrap();
        *seen.entry(minute).or_default() += 1;
        let at = time(&tick["at"]).unwrap();
        if connected.map(|connected| connected.plus_millis(minute * interval)) != Some(at) {
            report.violation(call, &format!("tick {minute} is at {at}, connected at {connected:?}"));
        }
        if at > ended {
            if *sequence < settled_at {
                announced += 1;
            } else {
                unannounced += 1;
                report.violation(
                    call,
                    &format!("tick {minute} is beyond the end, stored after the settlement"),
                );
            }
        }
        if is_early(stored, at) {
            report.early += 1;
            report.violation(call, &format!("tick {minute} is early by the clock of its publisher"));
        }
        let late = lateness(core, record, stored, at);
        report.latest_tick = report.latest_tick.max(late);
        report.early_by_clocks_ahead += u64::from(stored.at < at);
    }
    let missing = (1..=due).filter(|minute| !seen.contains_key(minute)).count() as u64;
    let doubled: u64 = seen.values().map(|times| times - 1).sum();
    let holes = seen.keys().next_back().map_or(0, |last| last - seen.len() as u64);
    if missing + holes + doubled > 0 {
        report.violation(
            call,
            &format!("of {due} ticks {missing} are missing, {doubled} doubled; {holes} holes"),
        );
    }
    let late = report.latest_tick;
    let fields = [
        ("durationMs", duration),
        ("ticks", due),
        ("billedMinutes", billed),
        ("overTicks", announced),
    ];
    for (field, expected) in fields {
        let found = settled[field].as_u64().unwrap_or(0);
        if found != expected {
            report.violation(
                call,
                &format!("{field} of the settlement is {found}, expected {expected}"),
            );
        }
    }
    for (field, expected) in [("connectedAt", connected), ("endedAt", Some(ended))] {
        if time(&settled[field]) != expected {
            report.violation(
                call,
                &format!("{field} of the settlement is {}, expected {expected:?}", settled[field]),
            );
        }
    }
    if settled["reason"] != end["reason"] {
        report.violation(call, "the reason of the settlement is wrong");
    }
    if late > MAX_TICK_DELAY {
        report.violation(call, &format!("a tick is late by {late:?} after the last fault"));
    }
    report.settled += 1;
    report.ticks_due += due;
    report.ticks_stored += record.ticks.len() as u64;
    report.missing += missing;
    report.doubled += doubled;
    report.beyond_reported += announced;
    report.beyond += unannounced;
}

fn is_early(stored: &Stored, at: Timestamp) -> bool {
    stored.sent.is_some_and(|sent| sent.shown < at)
}

/// The delay of a tick that is attributable to billing alone.
fn lateness(core: &Core, record: &Record<'_>, stored: &Stored, at: Timestamp) -> Duration {
    let known = [&record.detected, &record.ended].into_iter().flatten();
    let known = known.map(|(_, stored, _)| stored.at).min().unwrap_or(at);
    let faults_end = timestamp(i64::try_from(core.plan.faults_end_at / 1_000).unwrap());
    stored.at.until(at.max(known).max(faults_end))
}

fn time(value: &Value) -> Option<Timestamp> {
    serde_json::from_value(value.clone()).ok()
}
