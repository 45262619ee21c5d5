//! Credit control: media stops, and the bill too, when the granted time is over.

use std::collections::HashMap;

use super::CLOCK_MS;
use super::history::Call;
use crate::records::run_log::{Entries, Heard};
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// How long the media may flow beyond the granted time.
const LATE_MS: i64 = 100;
/// Longer than the pauses between packets.
const PAUSE_MS: i64 = 1_000;
/// The faults that cut a worker off from NATS.
const CUTS: [&str; 3] = ["worker-cut", "worker-stall", "worker-isolate"];

/// When the last packet was sent that a party received, by call.
pub(super) fn last_heard(heard: &[Heard]) -> HashMap<&str, Timestamp> {
    let mut last = HashMap::new();
    for heard in heard {
        let sent_at = Timestamp::from(heard.sent_at);
        let known = last.entry(heard.call.as_str()).or_insert(sent_at);
        *known = sent_at.max(*known);
    }
    last
}

/// Checks one call.
pub(super) fn check(id: &str, call: &Call, last_heard: Option<&Timestamp>, entries: &Entries, report: &mut Report) {
    let Some(first) = call.requested.first().and_then(|fact| fact.payload.until_ms) else {
        return;
    };
    let mut until_ms = first;
    for granted in &call.granted {
        if granted.payload.until_ms <= until_ms {
            let text = format!("a grant of {} ms after one of {until_ms} ms", granted.payload.until_ms);
            report.find(Check::Credit, id, &[granted.sequence], text);
        }
        until_ms = until_ms.max(granted.payload.until_ms);
    }
    for low in &call.credit_low {
        let (low, at) = (&low.payload, [low.sequence]);
        if low.until_ms > until_ms || low.remaining_ms > low.until_ms {
            report.find(Check::Credit, id, &at, format!("low without a reason: {low:?}"));
        }
    }
    let Some(detected) = call.detected.first() else { return };
    report.credit.extended += u64::from(!call.granted.is_empty());
    let is_exhausted = |reason: &str| reason == "credit_exhausted";
    if call
        .ended
        .first()
        .is_some_and(|ended| is_exhausted(&ended.payload.reason))
    {
        report.credit.exhausted += 1;
        report.credit.heard += u64::from(last_heard.is_some());
    }
    if let Some(ended) = call.ended.first() {
        let (payload, at) = (&ended.payload, [ended.sequence]);
        match payload.duration_ms {
            Some(duration_ms) if duration_ms > until_ms + LATE_MS => {
                let text = format!("lasted {duration_ms} ms, granted were {until_ms} ms");
                report.find(Check::Credit, id, &at, text);
            }
            Some(duration_ms) if is_exhausted(&payload.reason) && duration_ms < until_ms => {
                let text = format!("ended after {duration_ms} ms of {until_ms} ms");
                report.find(Check::Credit, id, &at, text);
            }
            _ => {}
        }
    }
    if let Some(settled) = call.settled.first() {
        let billed_ms = settled.payload.billed_ms.unwrap_or(0);
        let minutes_ms =
            terms_interval_ms(call).saturating_mul(settled.payload.billed_minutes.try_into().unwrap_or(i64::MAX));
        if billed_ms > until_ms || minutes_ms > until_ms {
            let text = format!("billed {billed_ms} ms, {minutes_ms} ms in minutes, granted were {until_ms} ms");
            report.find(Check::Credit, id, &[settled.sequence], text);
        }
    }
    let connected_at = call.true_time(detected.payload.connected_at);
    let over_at = connected_at.plus_ms(heard_until_ms(id, call, until_ms, entries));
    let latest = over_at.plus_ms(LATE_MS + CLOCK_MS);
    let worker = &detected.payload.worker_id;
    let without_nats =
        faults_of(entries, &CUTS, worker).any(|(begun, over)| begun < over_at && over.is_none_or(|over| over > latest));
    if without_nats && last_heard.is_some_and(|sent_at| *sent_at >= over_at.plus_ms(-PAUSE_MS)) {
        report.credit.heard_without_nats += 1;
    }
    if let Some(sent_at) = last_heard.filter(|sent_at| **sent_at > latest)
        && !was_paused(entries, worker, over_at, *sent_at)
    {
        let text = format!("media sent at {sent_at} was forwarded, the granted time was over at {over_at}");
        report.find(Check::Credit, id, &[detected.sequence], text);
    }
}

/// How long media may flow. A worker that is cut off may have taken a grant that is not stored, because another service ended the call
/// meanwhile; it does not count for the bill.
fn heard_until_ms(id: &str, call: &Call, stored_ms: i64, entries: &Entries) -> i64 {
    let is_ended_by_credit = call
        .ended
        .first()
        .is_some_and(|ended| ended.payload.reason == "credit_exhausted");
    let sent = entries
        .grants
        .iter()
        .filter(|grant| grant.call == id && !is_ended_by_credit);
    sent.map(|grant| grant.until_ms).fold(stored_ms, i64::max)
}

fn terms_interval_ms(call: &Call) -> i64 {
    let terms = call.requested.first().and_then(|fact| fact.payload.terms.as_ref());
    terms.map_or(0, |terms| terms.interval_ms)
}

/// Whether the worker was stopped, or had no processor, for some of the time: it forwards what arrived meanwhile.
fn was_paused(entries: &Entries, worker: &str, from: Timestamp, to: Timestamp) -> bool {
    let freezes = faults_of(entries, &["worker-freeze"], worker);
    let starved = entries.starved.iter();
    let starved = starved.map(|(from, until)| (Timestamp::from(*from), Some(Timestamp::from(*until))));
    freezes
        .chain(starved)
        .any(|(begun, over)| begun <= to && over.is_none_or(|over| over.plus_ms(LATE_MS) >= from))
}

/// When faults of these kinds began and ended for a target.
fn faults_of<'a>(
    entries: &'a Entries,
    kinds: &'a [&str],
    target: &'a str,
) -> impl Iterator<Item = (Timestamp, Option<Timestamp>)> + 'a {
    let faults = entries.faults.iter();
    let faults = faults.filter(move |fault| fault.target == target && kinds.contains(&fault.what.as_str()));
    faults.map(|fault| (fault.injected_at.into(), fault.repaired_at.map(Timestamp::from)))
}
