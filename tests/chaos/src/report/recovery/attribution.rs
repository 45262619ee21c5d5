//! Which fault it was.

use super::{Disturbance, P99_SECONDS};
use crate::records::run_log::Fault;
use crate::records::timestamp::Timestamp;

/// A loss may be noticed with hindsight: its last sign of life was this long before the strike.
const HINDSIGHT_MS: i64 = 3_000;
/// Who strikes this soon after another fault was mended strikes into the recovery from it. One that is planned to be alone has
/// at least twice as long for itself.
const NO_REST_MS: i64 = 3_000;

/// The fault behind a disturbance: one that left nothing, if it struck before the bound of recovery; else of those that hit
/// the process to blame, if that is known, the latest that was on when it began, else the first that struck after that; else
/// of all faults the latest of those still on when it began; else one struck soon after (hindsight), or before an attempt had
/// failed; else the latest before; else the first during.
pub(super) fn cause(faults: &[Fault], disturbance: &Disturbance) -> Option<usize> {
    let (since, until) = (disturbance.since, disturbance.until);
    let spans = faults.iter().enumerate().map(|(place, fault)| {
        let struck = Timestamp::from(fault.struck_at);
        (struck, fault.mended_at.map(Timestamp::from), place)
    });
    let hindsight = since.plus_ms(HINDSIGHT_MS).max(disturbance.failed_at.unwrap_or(since));
    let is_to_blame = |(_, _, place): &(Timestamp, Option<Timestamp>, usize)| {
        let target = faults.get(*place).map(|fault| &fault.target);
        disturbance.target.is_some() && target == disturbance.target.as_ref()
    };
    let on = spans
        .clone()
        .filter(|(struck, mended, _)| *struck <= since && mended.is_none_or(|mended| mended >= since));
    let during = spans
        .clone()
        .filter(|(struck, _, _)| *struck > since && until.is_none_or(|until| *struck <= until));
    let soon = during.clone().filter(|(struck, _, _)| *struck <= hindsight);
    let before = spans.filter(|(struck, _, _)| *struck <= since);
    // Whatever was still overdue when nothing was left to recover with, waits for that from then on.
    let soon_enough = since.plus_ms((P99_SECONDS * 1_000.0) as i64);
    let total = during
        .clone()
        .filter(|(struck, _, place)| *struck <= soon_enough && faults.get(*place).is_some_and(|fault| fault.total));
    if let Some((_, _, place)) = total.min() {
        return Some(place);
    }
    let to_blame = on.clone().filter(is_to_blame).max();
    let found = to_blame.or_else(|| during.clone().filter(is_to_blame).min());
    let found = found.or_else(|| on.max()).or_else(|| soon.min());
    let found = found.or_else(|| before.max()).or_else(|| during.min());
    found.map(|(_, _, place)| place)
}

/// Whether another fault was on at the same time, or as good as. Of two, it cannot be told whose recovery the other one holds up.
pub(super) fn is_together(faults: &[Fault], place: usize) -> bool {
    let span = |fault: &Fault| {
        let rested = fault.mended_at.map(|at| Timestamp::from(at).plus_ms(NO_REST_MS));
        (Timestamp::from(fault.struck_at), rested)
    };
    let Some((struck, rested)) = faults.get(place).map(span) else {
        return false;
    };
    faults
        .iter()
        .map(span)
        .enumerate()
        .any(|(other, (other_struck, other_rested))| {
            other != place
                && rested.is_none_or(|rested| other_struck <= rested)
                && other_rested.is_none_or(|other_rested| struck <= other_rested)
        })
}
