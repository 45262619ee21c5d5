//! The settlement of a call that is over.

use contract::Timestamp;
use contract::buckets::billing_index::{BillingEnd, BillingEntry};
use contract::wire::fact::Settled;

use super::last_tick::LastTick;
use super::terms::{Charge, full_minutes};

/// Computes the settlement.
///
/// The bill follows from `connectedAt` and `endedAt` alone, not from the number of stored ticks. Ticks beyond the end are
/// reported as `overTicks` and not billed. A call whose `connectedAt` is after its `endedAt` has a duration of 0.
pub fn settle(
    entry: &BillingEntry,
    connected_at: Option<Timestamp>,
    end: &BillingEnd,
    last: Option<&LastTick>,
    interval_ms: u64,
    charge: Charge,
) -> Settled {
    let duration_ms = connected_at.map_or(0, |connected_at| end.ended_at.millis_since(connected_at));
    let ticks = full_minutes(duration_ms, interval_ms);
    Settled {
        parties: entry.parties.clone(),
        connected_at,
        ended_at: end.ended_at,
        duration_ms,
        ticks,
        over_ticks: last.map_or(0, |last| last.minute).saturating_sub(ticks),
        billed_minutes: charge.minutes(duration_ms, interval_ms),
        reason: end.reason,
    }
}
