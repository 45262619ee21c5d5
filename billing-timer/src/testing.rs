//! The contract's samples with times in milliseconds from 1970, and entries, for this crate's tests.

use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::samples;
use contract::wire::fact::{EndReason, Ended, RtpDetected, Tick};
use contract::{Timestamp, TraceParent};

pub(crate) use contract::samples::parties;

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn entry(call: &str, connected: Option<i64>, ended: Option<i64>) -> BillingEntry {
    BillingEntry {
        parties: parties(call),
        connected_at: connected.map(at),
        started_at: None,
        interval_ms: None,
        end: ended.map(|ended| {
            Box::new(BillingEnd {
                ended_at: at(ended),
                reason: EndReason::Hangup,
            })
        }),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            .parse::<TraceParent>()
            .unwrap(),
    }
}

pub(crate) fn tick(call: &str, minute: u32, connected: i64, due: i64) -> Tick {
    Tick {
        at: at(due),
        ..samples::tick(call, minute, at(connected), 0)
    }
}

pub(crate) fn rtp_detected(call: &str, connected: i64) -> RtpDetected {
    samples::rtp_detected(call, at(connected))
}

pub(crate) fn ended(call: &str, ended: i64, connected: Option<i64>) -> Ended {
    samples::ended(call, at(ended), connected.map(at))
}
