//! The judge of a run: reads what is stored and what parties were told, and finds fault.
//!
//! It shares nothing with the services, not even the contract's types: subjects, payloads and rules are written here once more,
//! from the specification. So a mistake in the one does not hide in the other.

mod stream;

mod history;

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

/// All clocks are one machine's; what is left is the rounding to milliseconds and the timestamp between looking at the clock
/// and acting.
const CLOCK_MS: i64 = 5;
/// How long the services may take to tell a party once it has a connection and nothing is broken. A run that ends with
/// less calm than that cannot be judged.
pub const CALM_MS: i64 = 10_000;

/// Everything that is stored.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The stream of facts.
    pub calls: Vec<Stored>,
    /// What services could not read.
    pub parked: Vec<Stored>,
}

/// Reads the streams to their ends, then judges.
///
/// `client` is `admin`. The calls must have ended, and at least [`CALM_MS`] of calm must lie before [`RunLog::over`].
///
/// # Errors
/// When the streams cannot be read. What is wrong in them is in the report.
pub async fn check(client: async_nats::Client, run_log: &RunLog, interval: Duration) -> Result<Report> {
    let evidence = Evidence {
        calls: stream::read(&client, "CALLS").await.context("reading CALLS")?,
        parked: stream::read(&client, "PARKED").await.context("reading PARKED")?,
    };
    Ok(run_log.read(|entries| judge(&evidence, entries, interval)))
}

/// Judges a run. Pure.
#[must_use]
pub fn judge(evidence: &Evidence, entries: &Entries, interval: Duration) -> Report {
    let mut report = Report {
        interval_ms: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX),
        facts: evidence.calls.len() as u64,
        parked: evidence.parked.len() as u64,
        messages: entries.told.len() as u64,
        ..Default::default()
    };
    whole(evidence, entries, &mut report);
    let calls = history::read(&evidence.calls, &mut report);
    judge_calls(&calls, entries, &mut report);
    let listeners = received::listen(&entries.told, &mut report);
    let last_stored = evidence.calls.iter().map(|stored| stored.stored_at).max();
    let times = Times::of(entries, &listeners, last_stored);
    for (party, listener) in &listeners {
        notice_content::judge(party, listener, &calls, &mut report);
    }
    for (id, call) in &calls {
        for (_, party) in call.parties() {
            notice_delivery::judge(id, call, party, listeners.get(party), &times, &mut report);
        }
    }
    let disturbances = disturbances::gather(&calls, &listeners, entries, &times);
    report.recovery = recovery::measure(&entries.faults, &disturbances, &entries.starved, times.over_at);
    judge_recovery(&mut report);
    report
}

/// Whether the evidence is whole, and is any.
fn whole(evidence: &Evidence, entries: &Entries, report: &mut Report) {
    if entries.lost > 0 {
        let text = format!("the journal had no room for {} entries", entries.lost);
        report.find(Check::Overflow, "", &[], text);
    }
    for parked in &evidence.parked {
        let text = format!("{}: {}", parked.subject, String::from_utf8_lossy(&parked.payload));
        report.find(Check::Parked, "", &[parked.sequence], text);
    }
    if evidence.calls.is_empty() || entries.told.is_empty() {
        let text = "no fact is stored, or nobody was told anything";
        report.find(Check::Nothing, "", &[], text);
    }
}

fn judge_calls(calls: &Calls, entries: &Entries, report: &mut Report) {
    let packets = order::first_packets(&entries.sent);
    report.calls = calls.len() as u64;
    for (id, call) in calls {
        report.detected.count(call.detected.len());
        report.ended.count(call.ended.len());
        report.settled.count(call.settled.len());
        order::judge(id, call, &packets, report);
        minutes::judge(id, call, report.interval_ms, report);
    }
}

fn judge_recovery(report: &mut Report) {
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
