//! The checker of a run: reads the stored facts and the messages of the parties, and reports violated invariants.
//!
//! It shares nothing with the services, not even the contract's types: subjects, payloads and rules are implemented again from the
//! specification, so that an error in one does not hide in the other.

mod stream;

mod history;

mod clocks;

mod credit;

mod duration;

mod minutes;

mod order;

mod received;

mod notice_content;

mod times;

mod notice_delivery;

mod disturbances;

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::records::run_log::{Entries, RunLog};
use crate::report::recovery::{self, P99_SECONDS};
use crate::report::{Check, Report};
use history::Calls;
use times::Times;

pub use stream::Stored;

/// The tolerance between time stamps of one machine's clock: rounding to milliseconds, and the delay after reading the clock.
const CLOCK_MS: i64 = 5;
/// The deadline for informing a connected party without an active fault. A run that ends with less calm cannot be checked.
pub const NOTICE_DEADLINE_MS: i64 = 10_000;

/// The stored messages.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The stream of facts.
    pub calls: Vec<Stored>,
    /// The stream of parked messages.
    pub parked: Vec<Stored>,
}

/// Reads the streams to their ends, then checks them.
///
/// `client` is `admin`. The calls must have ended, and [`NOTICE_DEADLINE_MS`] of calm must precede [`RunLog::over`].
/// Fails only if the streams cannot be read: violations are in the report.
pub async fn check(client: async_nats::Client, run_log: &RunLog, interval: Duration) -> Result<Report> {
    let evidence = Evidence {
        calls: stream::read(&client, "CALLS").await.context("reading CALLS")?,
        parked: stream::read(&client, "PARKED").await.context("reading PARKED")?,
    };
    Ok(run_log.read(|entries| check_run(&evidence, entries, interval)))
}

/// Checks a run. Pure.
pub fn check_run(evidence: &Evidence, entries: &Entries, interval: Duration) -> Report {
    let mut report = Report {
        interval_ms: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX),
        facts: evidence.calls.len() as u64,
        parked: evidence.parked.len() as u64,
        messages: entries.received.len() as u64,
        ..Default::default()
    };
    check_completeness(evidence, entries, &mut report);
    let mut calls = history::read(&evidence.calls, &mut report);
    clocks::apply(&mut calls, entries);
    check_calls(&calls, entries, &mut report);
    let parties = received::read(&entries.received, &mut report);
    let last_stored = evidence.calls.iter().map(|stored| stored.stored_at).max();
    let times = Times::of(entries, &parties, last_stored);
    for (party, messages) in &parties {
        notice_content::check(party, messages, &calls, &mut report);
    }
    for (id, call) in &calls {
        for (_, party) in call.parties() {
            notice_delivery::check(id, call, party, parties.get(party), &times, &mut report);
        }
    }
    let disturbances = disturbances::gather(&calls, &parties, entries, &times);
    report.recovery = recovery::measure(&entries.faults, &disturbances, &entries.starved, times.over_at);
    check_recovery(&mut report);
    report
}

/// Whether the evidence is complete, and not empty.
fn check_completeness(evidence: &Evidence, entries: &Entries, report: &mut Report) {
    if entries.lost > 0 {
        let text = format!("the run log dropped {} entries", entries.lost);
        report.find(Check::Overflow, "", &[], text);
    }
    for parked in &evidence.parked {
        let text = format!("{}: {}", parked.subject, String::from_utf8_lossy(&parked.payload));
        report.find(Check::Parked, "", &[parked.sequence], text);
    }
    if evidence.calls.is_empty() || entries.received.is_empty() {
        let text = "no fact is stored, or no message was received";
        report.find(Check::Nothing, "", &[], text);
    }
}

fn check_calls(calls: &Calls, entries: &Entries, report: &mut Report) {
    let packets = order::first_packets(&entries.sent);
    let heard = credit::last_heard(&entries.heard);
    report.calls = calls.len() as u64;
    for (id, call) in calls {
        report.detected.count(call.detected.len());
        report.ended.count(call.ended.len());
        for ended in &call.ended {
            *report.reasons.entry(ended.payload.reason.clone()).or_default() += 1;
        }
        report.settled.count(call.settled.len());
        order::check(id, call, &packets, report);
        minutes::check(id, call, report.interval_ms, report);
        duration::check(id, call, &packets, entries, report);
        credit::check(id, call, heard.get(id.as_str()), entries, report);
    }
}

fn check_recovery(report: &mut Report) {
    for text in report.recovery.complaints() {
        report.find(Check::Slow, "", &[], text);
    }
    let recovery = &report.recovery;
    let open = recovery.faults.iter().filter(|fault| fault.open).map(|fault| {
        let last = fault.last.as_deref().unwrap_or_default();
        format!("after {} {}, until the end: {last}", fault.what, fault.target)
    });
    let unexplained = recovery.without_fault.iter();
    let unexplained = unexplained
        .filter(|unexplained| unexplained.open || unexplained.seconds >= P99_SECONDS)
        .map(|unexplained| format!("{:.1} s without a fault: {}", unexplained.seconds, unexplained.what));
    let texts: Vec<String> = open.chain(unexplained).collect();
    for text in texts {
        report.find(Check::Recovery, "", &[], text);
    }
}
