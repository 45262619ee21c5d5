//! Facts for tests, one builder each. A test replaces values with struct update syntax: `Ended { reason, ..ended(…) }`.
//!
//! Other crates enable the feature `samples` for their tests.

use crate::views::history::Recorded;
use crate::wire::envelope::TraceParent;
use crate::wire::fact::{
    Accepted, EndReason, Ended, Fact, Method, Requested, RtpDetected, RtpEvidence, RtpLost, Settled, Tick,
};
use crate::wire::id::{CallId, WorkerId};
use crate::wire::party::{Parties, Role};
use crate::wire::time::Timestamp;

/// The worker in every fact that names one.
const WORKER: &str = "mw_1";

/// A fixed time in 2023, plus `millis`: for tests that do not depend on the clock.
pub fn at(millis: i64) -> Timestamp {
    parsed(Timestamp::from_millis(1_700_000_000_000 + millis))
}

/// `millis` before now.
pub fn ago(millis: u64) -> Timestamp {
    let now = Timestamp::now().as_millis();
    parsed(Timestamp::from_millis(now.saturating_sub_unsigned(millis)))
}

/// A call between the user `u_<call>` and the otomo `o_<call>`, who are in no other call.
pub fn parties(call: &str) -> Parties {
    Parties {
        call_id: parsed(call.parse().ok()),
        user_id: parsed(format!("u_{call}").parse().ok()),
        otomo_id: parsed(format!("o_{call}").parse().ok()),
    }
}

/// The parties of a new call.
pub fn new_parties() -> Parties {
    parties(CallId::generate().as_str())
}

/// The user's request.
pub fn requested(call: &str, requested_at: Timestamp) -> Requested {
    Requested::new(parties(call), requested_at)
}

/// The otomo's answer.
pub fn accepted(call: &str, accepted_at: Timestamp) -> Accepted {
    Accepted {
        parties: parties(call),
        accepted_at,
        worker_id: worker_id(),
        worker_started_at: None,
    }
}

/// The user's first packet.
pub fn rtp_detected(call: &str, connected_at: Timestamp) -> RtpDetected {
    RtpDetected {
        parties: parties(call),
        connected_at,
        method: Method::SfuRtpDetected,
        detected_from: Role::User,
        evidence: RtpEvidence {
            worker_id: worker_id(),
            producer_id: "producer_1".to_owned(),
            ssrc: 1,
            sequence_number: None,
            rtp_timestamp: None,
        },
        terms: None,
    }
}

/// The user's silence.
pub fn rtp_lost(call: &str, last_rtp_at: Timestamp) -> RtpLost {
    RtpLost {
        parties: parties(call),
        party: Role::User,
        last_rtp_at: Some(last_rtp_at),
        lost_at: None,
        gap_ms: 5_000,
    }
}

/// A full minute.
pub fn tick(call: &str, minute: u32, connected_at: Timestamp, interval_ms: u64) -> Tick {
    Tick {
        parties: parties(call),
        minute,
        at: connected_at.plus_millis(u64::from(minute) * interval_ms),
        connected_at,
    }
}

/// The user's hang-up.
pub fn ended(call: &str, ended_at: Timestamp, connected_at: Option<Timestamp>) -> Ended {
    Ended {
        parties: parties(call),
        ended_at,
        reason: EndReason::Hangup,
        by: "user".to_owned(),
        connected_at,
        duration_ms: None,
        clock_step_ms: None,
        party: None,
        terms: None,
    }
}

/// The record of a call that was hung up, with `minutes` stored and billed.
pub fn settled(call: &str, connected_at: Timestamp, duration_ms: u64, minutes: u32) -> Settled {
    Settled {
        parties: parties(call),
        connected_at: Some(connected_at),
        ended_at: connected_at.plus_millis(duration_ms),
        duration_ms,
        ticks: minutes,
        over_ticks: 0,
        billed_minutes: minutes,
        reason: EndReason::Hangup,
        billed_ms: None,
        silent_ms: None,
        until_ms: None,
        terms: None,
    }
}

/// A fact as it is read from the stream, stored `lag_ms` after it happened.
pub fn recorded(sequence: u64, fact: impl Into<Fact>, lag_ms: u64) -> Recorded {
    let fact = fact.into();
    let (subject, payload) = (fact.subject(), parsed(fact.encode().ok()));
    Recorded {
        fact: Fact::decode(&subject, &payload),
        subject,
        payload,
        sequence,
        stored_at: fact.occurred_at().plus_millis(lag_ms),
        source: None,
        trace: TraceParent::generate(),
    }
}

fn worker_id() -> WorkerId {
    parsed(WORKER.parse().ok())
}

#[allow(clippy::expect_used, reason = "a test with an invalid value is wrong")]
fn parsed<T>(value: Option<T>) -> T {
    value.expect("a valid ID, time or fact")
}
