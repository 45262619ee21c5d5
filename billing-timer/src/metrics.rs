//! The metrics of this service.

use std::time::Duration;

use contract::wire::fact::Settled;
use contract::{FactKind, Timestamp};
use metrics::{counter, gauge, histogram};

use crate::domain::lease::MoveKind;

/// A tick stored later than this counts as late.
const LATE: Duration = Duration::from_secs(1);

/// Creates the counters whose labels have known values, so that their first event has a rate.
pub(crate) fn register() {
    for outcome in ["stored", "refused", "unacknowledged"] {
        counter!("callpulse_billing_batches_total", "outcome" => outcome).increment(0);
    }
    for reason in ["contradiction", "unreadable_fact", "unreadable_entry", "settlement"] {
        counter!("callpulse_billing_stuck_calls_total", "reason" => reason).increment(0);
    }
    for source in ["consumer", "billing_active", "billing_leases"] {
        counter!("callpulse_billing_lost_total", "source" => source).increment(0);
    }
    for fact in [FactKind::RtpDetected, FactKind::Ended].map(FactKind::as_str) {
        for outcome in ["entered", "settled_before", "failed"] {
            counter!("callpulse_billing_facts_total", "fact" => fact, "outcome" => outcome).increment(0);
        }
    }
    for outcome in ["ended", "failed"] {
        counter!("callpulse_billing_termination_requests_total", "outcome" => outcome).increment(0);
    }
}

/// By how much the server's clock is ahead of the wall clock of this machine, at least.
pub(crate) fn clock_difference(server: Timestamp, wall: Timestamp) {
    let ahead_ms = i32::try_from(server.as_millis() - wall.as_millis()).unwrap_or(i32::MAX);
    gauge!("callpulse_billing_clock_difference_seconds").set(f64::from(ahead_ms) / 1e3);
}

/// Facts that the consumer has not delivered to any instance.
pub(crate) fn consumer_pending(facts: u64) {
    gauge!("callpulse_billing_consumer_pending").set(to_f64(usize::try_from(facts).unwrap_or(usize::MAX)));
}

/// Calls that this instance ticks.
pub(crate) fn active_calls(calls: usize, due: usize) {
    gauge!("callpulse_billing_active_calls").set(to_f64(calls));
    gauge!("callpulse_billing_due_calls").set(to_f64(due));
}

/// A batch of ticks was stored; `due` are the times at which they were due.
pub(crate) fn batch_stored(due: impl ExactSizeIterator<Item = Timestamp>, now: Timestamp) {
    let size = due.len();
    counter!("callpulse_billing_batches_total", "outcome" => "stored").increment(1);
    counter!("callpulse_billing_ticks_total").increment(u64::try_from(size).unwrap_or(u64::MAX));
    gauge!("callpulse_billing_last_batch_size").set(to_f64(size));
    for at in due {
        let lateness = now.until(at);
        histogram!("callpulse_billing_tick_lateness_seconds").record(lateness.as_secs_f64());
        if lateness > LATE {
            counter!("callpulse_billing_late_ticks_total").increment(1);
        }
    }
}

/// A batch of ticks failed.
pub(crate) fn batch_failed(outcome: &'static str) {
    counter!("callpulse_billing_batches_total", "outcome" => outcome).increment(1);
}

/// A call was settled, this long after its end.
pub(crate) fn settled(settled: &Settled, after: Duration) {
    histogram!("callpulse_billing_settlement_seconds").record(after.as_secs_f64());
    counter!("callpulse_billing_settlements_total", "reason" => settled.reason.as_str()).increment(1);
    counter!("callpulse_billing_billed_total").increment(settled.billed_minutes.into());
    counter!("callpulse_billing_over_ticks_total").increment(settled.over_ticks.into());
}

/// A different settlement of the call is stored.
pub(crate) fn settlement_disputed() {
    counter!("callpulse_billing_disputed_settlements_total").increment(1);
}

/// A call's ticks contradict its entry, or its stored facts cannot be decoded.
pub(crate) fn call_stuck(reason: &'static str) {
    counter!("callpulse_billing_stuck_calls_total", "reason" => reason).increment(1);
}

/// A message could not be decoded and was parked.
pub(crate) fn parked() {
    counter!("callpulse_billing_parked_total").increment(1);
}

/// A delivered fact was handled.
pub(crate) fn fact_handled(fact: &'static str, outcome: &'static str) {
    counter!("callpulse_billing_facts_total", "fact" => fact, "outcome" => outcome).increment(1);
}

/// The consumer or a watch was lost and is being reopened.
pub(crate) fn lost(source: &'static str) {
    counter!("callpulse_billing_lost_total", "source" => source).increment(1);
}

/// Partitions whose calls this instance ticks.
pub(crate) fn leases_held(partitions: usize) {
    gauge!("callpulse_billing_leases_held").set(to_f64(partitions));
}

/// This instance changed the holder of a partition.
pub(crate) fn lease_moved(kind: MoveKind) {
    counter!("callpulse_billing_lease_moves_total", "kind" => kind.as_str()).increment(1);
}

/// The end of a call was requested because of its duration.
pub(crate) fn termination_requested(outcome: &'static str) {
    counter!("callpulse_billing_termination_requests_total", "outcome" => outcome).increment(1);
}

#[allow(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
fn to_f64(count: usize) -> f64 {
    count as f64
}
