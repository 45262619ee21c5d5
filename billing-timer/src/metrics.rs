//! The metrics of this service.

use contract::Timestamp;
use contract::wire::fact::Settled;
use metrics::{counter, gauge, histogram};

use crate::domain::lease::MoveKind;

/// Calls that this instance ticks.
pub(crate) fn active_calls(calls: usize) {
    gauge!("callpulse_billing_active_calls").set(to_f64(calls));
}

/// A batch of ticks was stored; `due` are the times at which they were due.
pub(crate) fn batch_stored(due: impl ExactSizeIterator<Item = Timestamp>, now: Timestamp) {
    let size = due.len();
    counter!("callpulse_billing_batches_total", "outcome" => "stored").increment(1);
    counter!("callpulse_billing_ticks_total").increment(u64::try_from(size).unwrap_or(u64::MAX));
    gauge!("callpulse_billing_last_batch_size").set(to_f64(size));
    for at in due {
        histogram!("callpulse_billing_tick_lateness_seconds").record(now.until(at).as_secs_f64());
    }
}

/// A batch of ticks failed.
pub(crate) fn batch_failed(outcome: &'static str) {
    counter!("callpulse_billing_batches_total", "outcome" => outcome).increment(1);
}

/// A call was settled.
pub(crate) fn settled(settled: &Settled) {
    counter!("callpulse_billing_settlements_total", "reason" => settled.reason.as_str()).increment(1);
    counter!("callpulse_billing_billed_minutes_total").increment(settled.billed_minutes.into());
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
