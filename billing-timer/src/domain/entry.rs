//! Merges facts into a call's entry in `billing_active`. The result does not depend on their order or repetition.

use std::num::NonZeroU32;

use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::wire::fact::{Ended, RtpDetected};
use contract::wire::terms::Terms;
use contract::{Parties, Timestamp, TraceParent};

/// Merges `rtp_detected`, which is authoritative for `connectedAt`.
///
/// `started_at` is when the call was connected by the server's clock, if that is known.
pub fn connected(
    entry: Option<BillingEntry>,
    fact: &RtpDetected,
    started_at: Option<Timestamp>,
    trace: TraceParent,
) -> BillingEntry {
    let entry = entry.unwrap_or_else(|| empty(&fact.parties, trace));
    BillingEntry {
        connected_at: Some(fact.connected_at),
        started_at: started_at.or(entry.started_at),
        interval_ms: interval_ms(fact.terms.as_ref()).or(entry.interval_ms),
        ..entry
    }
}

fn empty(parties: &Parties, traceparent: TraceParent) -> BillingEntry {
    BillingEntry {
        parties: parties.clone(),
        connected_at: None,
        started_at: None,
        interval_ms: None,
        end: None,
        traceparent,
    }
}

/// The interval of a call's terms as its entry has it.
pub fn interval_ms(terms: Option<&Terms>) -> Option<NonZeroU32> {
    let interval_ms = u32::try_from(terms?.interval_ms).ok()?;
    NonZeroU32::new(interval_ms)
}

/// Merges `ended`. `connected_at` comes from another source and applies only if the entry has none.
pub fn ended(
    entry: Option<BillingEntry>,
    fact: &Ended,
    connected_at: Option<Timestamp>,
    trace: TraceParent,
) -> BillingEntry {
    let entry = entry.unwrap_or_else(|| empty(&fact.parties, trace));
    BillingEntry {
        connected_at: entry.connected_at.or(connected_at),
        interval_ms: entry.interval_ms.or(interval_ms(fact.terms.as_ref())),
        end: entry.end.or_else(|| Some(Box::new(BillingEnd::from(fact)))),
        ..entry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{ended as ended_fact, rtp_detected};

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            deliveries in prop::collection::vec(any::<bool>(), 1..8),
            reported in prop::option::of(Just(700i64)),
        ) {
            let trace = TraceParent::generate();
            let (connected_fact, ended_fact) = (rtp_detected("c", 1_000), ended_fact("c", 9_000, reported));
            let mut entry = None;
            for is_end in &deliveries {
                entry = Some(if *is_end {
                    ended(entry, &ended_fact, ended_fact.connected_at, trace)
                } else {
                    connected(entry, &connected_fact, None, trace)
                });
            }
            let entry = entry.unwrap();
            let (saw_end, saw_connected) = (deliveries.contains(&true), deliveries.contains(&false));
            prop_assert_eq!(entry.end, saw_end.then(|| Box::new(BillingEnd::from(&ended_fact))));
            let expected = if saw_connected { Some(connected_fact.connected_at) } else { ended_fact.connected_at };
            prop_assert_eq!(entry.connected_at, expected);
        }
    }
}
