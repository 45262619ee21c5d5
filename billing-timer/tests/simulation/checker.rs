//! The invariants, checked from the stream and the plan alone.
//!
//! - A call's ticks are minute 1, 2, … without gap or repetition, each with `at` = `connectedAt` + minute × interval, and all
//!   ticks due up to `endedAt` are stored: *missing* and *doubled* are 0.
//! - No tick is stored before the true time at which it is due: *early* is 0, although the clocks of instances jump and those of
//!   media-workers are off by up to an hour.
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
use crate::plan::Call;
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
    requested: Option<Value>,
    /// Kind and payload, in stream order.
    media: Vec<(u64, String, Value)>,
    granted: Vec<(u64, u64)>,
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
            "requested" => record.requested = Some(fact.2),
            "rtp_lost" | "rtp_resumed" => record.media.push((sequence, kind.to_owned(), fact.2)),
            "credit_granted" => record.granted.push((sequence, fact.2["untilMs"].as_u64().unwrap())),
            other => report.violation(call, &format!("an unknown fact {other}")),
        }
    }
    for call in &core.plan.calls {
        report.calls += 1;
        match records.get(call.id.as_str()) {
            Some(record) => check_call(core, call, record, &mut report),
            None => report.violations.push(format!("{}: no fact is stored", call.id)),
        }
    }
    report
}

fn check_call(core: &Core, planned: &Call, record: &Record<'_>, report: &mut Report) {
    let call = planned.id.as_str();
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
    let requested = record.requested.as_ref().unwrap_or(&Value::Null);
    let terms = &requested["terms"];
    let interval = terms["intervalMs"].as_u64().unwrap_or(core.plan.interval_ms);
    let wall_clock = connected.map_or(0, |connected| (ended.as_millis() - connected.as_millis()).max(0));
    let wall_clock = u64::try_from(wall_clock).unwrap();
    let duration = match connected {
        Some(_) => end["durationMs"].as_u64().unwrap_or(wall_clock),
        None => 0,
    };
    let due = wall_clock / interval;
    let span = connected.map_or((0, 0), |connected| (connected.as_millis(), ended.as_millis()));
    let media: Vec<_> = record
        .media
        .iter()
        .filter(|(sequence, ..)| *sequence < settled_at)
        .collect();
    let silent = |parties: &[&str]| silence(&media, parties, span);
    let deducted = match terms["silence"].as_str() {
        None | Some("bill") => 0,
        Some("deduct_otomo") => silent(&["otomo"]),
        Some(_) => silent(&["user", "otomo"]),
    };
    let granted = record.granted.iter().filter(|(sequence, _)| *sequence < settled_at);
    let until = granted
        .map(|(_, until)| *until)
        .chain(requested["untilMs"].as_u64())
        .max();
    let most = until.unwrap_or(u64::MAX);
    let (free, minimum) = (
        terms["freeMs"].as_u64().unwrap_or(0),
        terms["minimumMs"].as_u64().unwrap_or(0),
    );
    let mut base = i128::from(duration.min(most)) - i128::from(deducted) - i128::from(free);
    if connected.is_some() {
        base = base.max(i128::from(minimum.min(most)));
    }
    let base = u64::try_from(base.max(0)).unwrap();
    let from_start = terms["charge"]
        .as_str()
        .map_or(core.plan.charged_at_start, |charge| charge == "start");
    let billed = base / interval + u64::from(from_start && base % interval > 0);
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
        // The true time at which it was due.
        let due_at = Timestamp::from_millis(at.as_millis() - planned.ahead_ms).unwrap();
        if stored.at < due_at {
            report.early += 1;
            report.violation(
                call,
                &format!("tick {minute} is early: stored at {}, due at {due_at}", stored.at),
            );
        }
        let late = lateness(core, record, stored, due_at);
        report.latest_tick = report.latest_tick.max(late);
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
        ("billedMs", base),
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
    for (field, expected) in [("user", silent(&["user"])), ("otomo", silent(&["otomo"]))] {
        if settled["silentMs"][field] != expected {
            let found = &settled["silentMs"];
            report.violation(
                call,
                &format!("silentMs of the {field} is in {found}, expected {expected}"),
            );
        }
    }
    if settled["untilMs"].as_u64() != until || settled["terms"] != *terms {
        report.violation(
            call,
            &format!("untilMs or terms of {settled}, expected {until:?} and {terms}"),
        );
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

/// The milliseconds of a call in which one of these parties was silent: each stretch between two changes is judged for itself.
fn silence(media: &[&(u64, String, Value)], parties: &[&str], (from, to): (i64, i64)) -> u64 {
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for party in parties {
        let mut since = None;
        for (_, kind, payload) in media.iter().filter(|(.., payload)| payload["party"] == *party) {
            let at = time(&payload["lastRtpAt"])
                .or(time(&payload["at"]))
                .map_or(from, Timestamp::as_millis);
            match (kind.as_str(), since) {
                ("rtp_lost", None) => since = Some(at),
                ("rtp_resumed", Some(lost)) => {
                    stretches.push((lost, at));
                    since = None;
                }
                _ => {}
            }
        }
        stretches.extend(since.map(|lost| (lost, i64::MAX)));
    }
    let mut points: Vec<i64> = stretches.iter().flat_map(|(lost, back)| [*lost, *back]).collect();
    points.extend([from, to]);
    points.retain(|point| (from..=to).contains(point));
    points.sort_unstable();
    let lengths = points.windows(2).filter_map(|pair| {
        let is_silent = stretches
            .iter()
            .any(|(lost, back)| *lost <= pair[0] && pair[1] <= *back);
        is_silent.then(|| u64::try_from(pair[1] - pair[0]).unwrap())
    });
    lengths.sum()
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
