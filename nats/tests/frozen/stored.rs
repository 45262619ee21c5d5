//! Values in buckets.

use contract::buckets::active_calls::{Acceptance, ActiveCall};
use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::buckets::billing_leases::{Instance, Lease, Partition, Process};
use contract::buckets::media_workers::WorkerStatus;
use contract::wire::fact::EndReason;

use crate::golden::Golden;
use crate::values::{connected_at, ended_at, parties, time, trace, worker};

#[test]
fn stored_values() {
    let mut golden = Golden::default();
    golden.value(
        "bucket.media_workers",
        &WorkerStatus {
            worker_id: worker(),
            calls: 3,
            capacity: 100,
            draining: false,
            cordoned: true,
            at: ended_at(),
            started_at: connected_at(),
            wall: Some(ended_at()),
            stored_at: None,
        },
    );
    for (name, worker_started_at) in [
        ("bucket.active_calls", None),
        ("bucket.active_calls.process", Some(time("2025-01-15T11:00:00.000Z"))),
    ] {
        golden.value(
            name,
            &ActiveCall {
                parties: parties(),
                node_id: "edge_1".parse().unwrap(),
                requested_at: time("2025-01-15T12:02:00.000Z"),
                ring_deadline: time("2025-01-15T12:02:30.000Z"),
                accepted: Some(Acceptance {
                    accepted_at: time("2025-01-15T12:02:10.500Z"),
                    worker_id: worker(),
                    worker_started_at,
                    media_deadline: time("2025-01-15T12:02:40.500Z"),
                }),
                traceparent: trace(),
            },
        );
    }
    golden.value(
        "bucket.billing_active",
        &BillingEntry {
            parties: parties(),
            connected_at: Some(connected_at()),
            started_at: Some(time("2025-01-15T12:02:16.000Z")),
            interval_ms: std::num::NonZeroU32::new(60_000),
            end: Some(Box::new(BillingEnd {
                ended_at: ended_at(),
                reason: EndReason::Hangup,
            })),
            traceparent: trace(),
        },
    );
    golden.value(
        "bucket.billing_leases.instance",
        &Instance {
            instance_id: "billing_1".parse().unwrap(),
            at: ended_at(),
            process: Some(Process {
                started_at: connected_at(),
                nonce: 7,
            }),
            can_bill: Some(false),
        },
    );
    golden.value(
        "bucket.billing_leases.partition",
        &Lease {
            instance_id: "billing_1".parse().unwrap(),
            since: connected_at(),
        },
    );
    golden.complete("bucket.");
}

/// The partition of a call must be the same in all versions.
#[test]
fn partitions_of_calls() {
    for (call, partition) in [
        ("call_abc123", 48),
        ("call_01941f297c007b2a8f0d3c6a5e4b2d10", 14),
        ("A", 32),
        ("-_", 34),
    ] {
        assert_eq!(Partition::of(&call.parse().unwrap()).number(), partition, "{call}");
    }
}
