//! The call's record, once it is over.

use contract::Timestamp;
use contract::buckets::billing_index::{BillingEnd, BillingEntry};
use contract::wire::fact::Settled;

use super::chain::LastTick;
use super::terms::{Charge, full_minutes};

/// What the user pays for a call.
///
/// It rests on `connectedAt` and `endedAt` alone, never on how many ticks got stored: those beyond the end are said to be
/// `overTicks`, and are not paid. A call that was connected only after its end has a duration of 0.
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
        over_ticks: last.map_or(0, |last| last.tick.minute).saturating_sub(ticks),
        billed_minutes: charge.minutes(duration_ms, interval_ms),
        reason: end.reason,
    }
}
