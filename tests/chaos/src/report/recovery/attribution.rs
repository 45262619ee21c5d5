//! Attributes disturbances to faults.

use super::{Disturbance, P99_SECONDS};
use crate::records::run_log::Fault;
use crate::records::timestamp::Timestamp;

/// A loss is dated back to the last heartbeat, which may be this long before the injection.
const LATE_ATTRIBUTION_MS: i64 = 3_000;
/// A fault this soon after the repair of another falls into its recovery. The schedule leaves at least twice as long after a fault
/// that is planned alone.
const NO_REST_MS: i64 = 3_000;

/// The fault that caused a disturbance, in this order of preference: a total outage that was injected before the bound of recovery;
/// of the faults of the known target, the latest that was active at the beginning, or the first one after; of all faults, the
/// latest active at the beginning; one injected soon after ([`LATE_ATTRIBUTION_MS`]) or before an attempt failed; the latest before; the
/// first during the disturbance.
pub(super) fn cause(faults: &[Fault], disturbance: &Disturbance) -> Option<usize> {
    let (since, until) = (disturbance.since, disturbance.until);
    let spans = faults.iter().enumerate().map(|(place, fault)| {
        let injected = Timestamp::from(fault.injected_at);
        (injected, fault.repaired_at.map(Timestamp::from), place)
    });
    let hindsight = since
        .plus_ms(LATE_ATTRIBUTION_MS)
        .max(disturbance.failed_at.unwrap_or(since));
    let is_of_target = |(_, _, place): &(Timestamp, Option<Timestamp>, usize)| {
        let target = faults.get(*place).map(|fault| &fault.target);
        disturbance.target.is_some() && target == disturbance.target.as_ref()
    };
    let on = spans
        .clone()
        .filter(|(injected, repaired, _)| *injected <= since && repaired.is_none_or(|repaired| repaired >= since));
    let during = spans
        .clone()
        .filter(|(injected, _, _)| *injected > since && until.is_none_or(|until| *injected <= until));
    let soon = during.clone().filter(|(injected, _, _)| *injected <= hindsight);
    let before = spans.filter(|(injected, _, _)| *injected <= since);
    // During a total outage, nothing can recover.
    let soon_enough = since.plus_ms((P99_SECONDS * 1_000.0) as i64);
    let total = during
        .clone()
        .filter(|(injected, _, place)| *injected <= soon_enough && faults.get(*place).is_some_and(|fault| fault.total));
    if let Some((_, _, place)) = total.min() {
        return Some(place);
    }
    let of_target = on.clone().filter(is_of_target).max();
    let found = of_target.or_else(|| during.clone().filter(is_of_target).min());
    let found = found.or_else(|| on.max()).or_else(|| soon.min());
    let found = found.or_else(|| before.max()).or_else(|| during.min());
    found.map(|(_, _, place)| place)
}

/// Whether another fault was active at about the same time, so that the recoveries cannot be separated.
pub(super) fn is_together(faults: &[Fault], place: usize) -> bool {
    let span = |fault: &Fault| {
        let rested = fault.repaired_at.map(|at| Timestamp::from(at).plus_ms(NO_REST_MS));
        (Timestamp::from(fault.injected_at), rested)
    };
    let Some((injected, rested)) = faults.get(place).map(span) else {
        return false;
    };
    faults
        .iter()
        .map(span)
        .enumerate()
        .any(|(other, (other_injected, other_rested))| {
            other != place
                && rested.is_none_or(|rested| other_injected <= rested)
                && other_rested.is_none_or(|other_rested| injected <= other_rested)
        })
}
