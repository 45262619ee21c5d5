//! Builders of facts and entries for this crate's tests.

use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::wire::fact::{EndReason, Ended, Method, RtpDetected, RtpEvidence, RtpLost, Tick};
use contract::{Parties, Role, Timestamp, TraceParent, WorkerId};

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn parties(call: &str) -> Parties {
    Parties {
        call_id: call.parse().unwrap(),
        user_id: "u".parse().unwrap(),
        otomo_id: "o".parse().unwrap(),
    }
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
        parties: parties(call),
        minute,
        at: at(due),
        connected_at: at(connected),
    }
}

pub(crate) fn rtp_detected(call: &str, connected: i64) -> RtpDetected {
    RtpDetected {
        parties: parties(call),
        connected_at: at(connected),
        method: Method::SfuRtpDetected,
        detected_from: Role::User,
        evidence: RtpEvidence {
            worker_id: "mw".parse::<WorkerId>().unwrap(),
            producer_id: "p".to_owned(),
            ssrc: 1,
            sequence_number: None,
            rtp_timestamp: None,
        },
        terms: None,
    }
}

pub(crate) fn lost(call: &str) -> RtpLost {
    RtpLost {
        parties: parties(call),
        party: Role::User,
        last_rtp_at: None,
        lost_at: None,
        gap_ms: 5_000,
    }
}

pub(crate) fn ended(call: &str, ended: i64, connected: Option<i64>) -> Ended {
    Ended {
        parties: parties(call),
        ended_at: at(ended),
        reason: EndReason::Hangup,
        by: "user".to_owned(),
        connected_at: connected.map(at),
        duration_ms: None,
        clock_step_ms: None,
        party: None,
        terms: None,
    }
}
