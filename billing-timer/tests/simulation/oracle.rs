//! What must hold, judged from the stream and the plan alone.
//!
//! - A call's ticks are minute 1, 2, … without hole or repetition, each `at` = `connectedAt` + minute × interval, and all that
//!   are due up to `endedAt` are there: *missing* and *doubled* are 0.
//! - No tick is stored before the wall clock of the instance that stored it has shown its time: *early* is 0. A clock that is
//!   ahead ticks early by as much; that is counted apart.
//! - The settlement is there once, and says what follows from the facts that are stored before it: beginning, end, duration,
//!   ticks, minutes, and how many ticks lie beyond the end. So none lies *beyond* it that the record does not
//!   tell of, and nothing is stored of the call after its record.
//! - A tick is stored in good time: within [`TICKED_WITHIN`] of its time, of the call's beginning being stored, and of the
//!   last fault, whichever is latest.
//! - In the end the book is empty, and every part of every instance at work.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::Timestamp;
use serde_json::Value;

use crate::core::Core;
use crate::report::Report;
use crate::server::stream::Stored;

/// The latest that a tick may be once nothing breaks any more.
pub(crate) const TICKED_WITHIN: Duration = Duration::from_secs(40);

/// What is not as it is to be in the end.
pub(crate) fn unfinished(core: &Core) -> Vec<String> {
    let mut unfinished = Vec::new();
    for call in &core.plan.calls {
        if core.server.stream.last(&format!("call.{}.settled", call.id)) == 0 {
            unfinished.push(format!("{} is not settled", call.id));
        }
    }
    for (key, _) in core.server.book.open_keys() {
        unfinished.push(format!("{key} is still on the book"));
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

pub(crate) fn judge(core: &Core) -> Report {
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
            other => report.wrong(call, &format!("an unknown fact {other}")),
        }
    }
    for call in &core.plan.calls {
        report.calls += 1;
        match records.get(call.id.as_str()) {
            Some(record) => judge_call(core, &call.id, record, &mut report),
            None => report.violations.push(format!("{}: nothing is stored of it", call.id)),
        }
    }
    report
}

fn judge_call(core: &Core, call: &str, record: &Record<'_>, report: &mut Report) {
    let interval = core.plan.interval_ms;
    let Some((_, _, end)) = &record.ended else {
        return report.wrong(call, "it has no end");
    };
    let (settled_at, settled) = match record.settled.as_slice() {
        [(sequence, _, settled)] => (*sequence, settled),
        all => return report.wrong(call, &format!("it is settled {} times", all.len())),
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
            report.wrong(call, &format!("tick {minute} is at {at}, connected at {connected:?}"));
        }
        if at > ended {
            if *sequence < settled_at {
                announced += 1;
            } else {
                unannounced += 1;
                report.wrong(
                    call,
                    &format!("tick {minute} is beyond the end, stored after the settlement"),
                );
            }
        }
        if is_early(stored, at) {
            report.early += 1;
            report.wrong(call, &format!("tick {minute} is early by the clock of who stored it"));
        }
        let late = lateness(core, record, stored, at);
        report.latest_tick = report.latest_tick.max(late);
        report.early_by_clocks_ahead += u64::from(stored.at < at);
    }
    let missing = (1..=due).filter(|minute| !seen.contains_key(minute)).count() as u64;
    let doubled: u64 = seen.values().map(|times| times - 1).sum();
    let holes = seen.keys().next_back().map_or(0, |last| last - seen.len() as u64);
    if missing + holes + doubled > 0 {
        report.wrong(
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
        let said = settled[field].as_u64().unwrap_or(0);
        if said != expected {
            report.wrong(
                call,
                &format!("the settlement says {field} {said}, and it is {expected}"),
            );
        }
    }
    for (field, expected) in [("connectedAt", connected), ("endedAt", Some(ended))] {
        if time(&settled[field]) != expected {
            report.wrong(
                call,
                &format!("the settlement says {field} {}, and it is {expected:?}", settled[field]),
            );
        }
    }
    if settled["reason"] != end["reason"] {
        report.wrong(call, "the settlement gives another reason");
    }
    if late > TICKED_WITHIN {
        report.wrong(call, &format!("a tick is late by {late:?} after the last fault"));
    }
    report.settled += 1;
    report.ticks_due += due;
    report.ticks_stored += record.ticks.len() as u64;
    report.missing += missing;
    report.doubled += doubled;
    report.beyond_told += announced;
    report.beyond += unannounced;
}

fn is_early(stored: &Stored, at: Timestamp) -> bool {
    stored.sent.is_some_and(|sent| sent.shown < at)
}

/// How late a tick is where nobody is to blame but billing.
fn lateness(core: &Core, record: &Record<'_>, stored: &Stored, at: Timestamp) -> Duration {
    let known = [&record.detected, &record.ended].into_iter().flatten();
    let known = known.map(|(_, stored, _)| stored.at).min().unwrap_or(at);
    let calm = crate::core::moment(i64::try_from(core.plan.calm_at / 1_000).unwrap());
    stored.at.until(at.max(known).max(calm))
}

fn time(value: &Value) -> Option<Timestamp> {
    serde_json::from_value(value.clone()).ok()
}
