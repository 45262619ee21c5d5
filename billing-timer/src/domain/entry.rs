//! Merges facts into a call's entry in `billing_active`. The result does not depend on their order or repetition.

use contract::buckets::billing_index::{BillingEnd, BillingEntry};
use contract::wire::fact::{Ended, RtpDetected};
use contract::{Timestamp, TraceParent};

/// Merges `rtp_detected`, which is authoritative for `connectedAt`.
pub fn connected(entry: Option<BillingEntry>, fact: &RtpDetected, trace: TraceParent) -> BillingEntry {
    let entry = entry.unwrap_or_else(|| BillingEntry {
        parties: fact.parties.clone(),
        connected_at: None,
        end: None,
        traceparent: trace,
    });
    BillingEntry {
        connected_at: Some(fact.connected_at),
        ..entry
    }
}

/// Merges `ended`. `connected_at` comes from another source and applies only if the entry has none.
pub fn ended(
    entry: Option<BillingEntry>,
    fact: &Ended,
    connected_at: Option<Timestamp>,
    trace: TraceParent,
) -> BillingEntry {
    let entry = entry.unwrap_or_else(|| BillingEntry {
        parties: fact.parties.clone(),
        connected_at: None,
        end: None,
        traceparent: trace,
    });
    BillingEntry {
        connected_at: entry.connected_at.or(connected_at),
        end: entry.end.or_else(|| Some(BillingEnd::from(fact))),
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
                    connected(entry, &connected_fact, trace)
                });
            }
            let entry = entry.unwrap();
            let (saw_end, saw_connected) = (deliveries.contains(&true), deliveries.contains(&false));
            prop_assert_eq!(entry.end, saw_end.then(|| BillingEnd::from(&ended_fact)));
            let expected = if saw_connected { Some(connected_fact.connected_at) } else { ended_fact.connected_at };
            prop_assert_eq!(entry.connected_at, expected);
        }
    }
}
