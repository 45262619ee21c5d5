//! Facts, and why calls end.

use contract::wire::fact::*;
use contract::{FactKind, Role};

use crate::golden::Golden;
use crate::values::{connected_at, ended_at, parties, terms, time, worker};

#[test]
fn facts() {
    let mut golden = Golden::default();
    let kinds = [
        golden.fact("requested", Requested::new(parties(), time("2025-01-15T12:02:00.000Z"))),
        golden.fact(
            "accepted",
            Accepted {
                parties: parties(),
                accepted_at: time("2025-01-15T12:02:10.500Z"),
                worker_id: worker(),
            },
        ),
        golden.fact(
            "rtp_detected",
            RtpDetected {
                parties: parties(),
                connected_at: connected_at(),
                method: Method::SfuRtpDetected,
                detected_from: Role::User,
                evidence: evidence(),
                terms: None,
            },
        ),
        golden.fact(
            "media_started",
            MediaStarted {
                parties: parties(),
                party: Role::Otomo,
                at: time("2025-01-15T12:02:15.723Z"),
                evidence: evidence(),
            },
        ),
        golden.fact(
            "rtp_lost",
            RtpLost {
                parties: parties(),
                party: Role::Otomo,
                last_rtp_at: Some(time("2025-01-15T12:03:00.250Z")),
                lost_at: Some(time("2025-01-15T12:03:05.250Z")),
                gap_ms: 5_000,
            },
        ),
        golden.fact(
            "rtp_resumed",
            RtpResumed {
                parties: parties(),
                party: Role::Otomo,
                at: time("2025-01-15T12:03:07.250Z"),
                gap_ms: 7_000,
            },
        ),
        golden.fact(
            "credit_granted",
            CreditGranted {
                parties: parties(),
                grant_id: "grant_2".parse().unwrap(),
                until_ms: 240_000,
                granted_at: time("2025-01-15T12:03:15.200Z"),
            },
        ),
        golden.fact(
            "credit_low",
            CreditLow {
                parties: parties(),
                grant_id: "grant_1".parse().unwrap(),
                remaining_ms: 60_000,
                until_ms: 120_000,
                at: time("2025-01-15T12:03:15.123Z"),
            },
        ),
        golden.fact(
            "tick",
            Tick {
                parties: parties(),
                minute: 1,
                at: time("2025-01-15T12:03:15.123Z"),
                connected_at: connected_at(),
            },
        ),
        golden.fact(
            "ended",
            Ended {
                parties: parties(),
                ended_at: ended_at(),
                reason: EndReason::Hangup,
                by: "user".to_owned(),
                connected_at: Some(connected_at()),
                duration_ms: Some(149_877),
                clock_step_ms: Some(-30_000),
                party: None,
                terms: None,
            },
        ),
        golden.fact(
            "settled",
            Settled {
                parties: parties(),
                connected_at: Some(connected_at()),
                ended_at: ended_at(),
                duration_ms: 149_877,
                ticks: 2,
                over_ticks: 0,
                billed_minutes: 2,
                reason: EndReason::Hangup,
                billed_ms: None,
                silent_ms: None,
                until_ms: None,
                terms: None,
            },
        ),
    ];
    assert_eq!(kinds, FactKind::ALL, "every kind of fact, in the order of a call");

    golden.fact(
        "requested.credit",
        Requested {
            until_ms: Some(120_000),
            grant_id: Some("grant_1".parse().unwrap()),
            ..Requested::new(parties(), time("2025-01-15T12:02:00.000Z"))
        },
    );
    let requested = Requested::new(parties(), time("2025-01-15T12:02:00.000Z"));
    golden.fact(
        "requested.terms",
        Requested {
            terms: Some(terms()),
            ..requested
        },
    );
    golden.fact(
        "settled.terms",
        Settled {
            parties: parties(),
            connected_at: Some(connected_at()),
            ended_at: ended_at(),
            duration_ms: 149_877,
            ticks: 2,
            over_ticks: 0,
            billed_minutes: 3,
            reason: EndReason::CreditExhausted,
            billed_ms: Some(142_877),
            silent_ms: Some(SilentMs { user: 0, otomo: 7_000 }),
            until_ms: Some(180_000),
            terms: Some(terms()),
        },
    );
    golden.fact(
        "rtp_lost.never_heard",
        RtpLost {
            parties: parties(),
            party: Role::Otomo,
            last_rtp_at: None,
            lost_at: Some(time("2025-01-15T12:02:20.123Z")),
            gap_ms: 5_000,
        },
    );
    golden.fact(
        "ended.one_sided",
        Ended {
            parties: parties(),
            ended_at: ended_at(),
            reason: EndReason::RtpTimeout,
            by: "mw_1".to_owned(),
            connected_at: Some(connected_at()),
            duration_ms: Some(149_877),
            clock_step_ms: Some(0),
            party: Some(Role::Otomo),
            terms: None,
        },
    );
    golden.fact(
        "ended.never_connected",
        Ended {
            parties: parties(),
            ended_at: ended_at(),
            reason: EndReason::NoAnswer,
            by: "edge_1".to_owned(),
            connected_at: None,
            duration_ms: None,
            clock_step_ms: None,
            party: None,
            terms: None,
        },
    );
    golden.fact(
        "settled.never_connected",
        Settled {
            parties: parties(),
            connected_at: None,
            ended_at: ended_at(),
            duration_ms: 0,
            ticks: 0,
            over_ticks: 0,
            billed_minutes: 0,
            reason: EndReason::NoAnswer,
            billed_ms: None,
            silent_ms: None,
            until_ms: None,
            terms: None,
        },
    );
    golden.fact(
        "settled.over_ticks",
        Settled {
            parties: parties(),
            connected_at: Some(connected_at()),
            ended_at: ended_at(),
            duration_ms: 149_877,
            ticks: 2,
            over_ticks: 1,
            billed_minutes: 3,
            reason: EndReason::RtpTimeout,
            billed_ms: None,
            silent_ms: None,
            until_ms: None,
            terms: None,
        },
    );
    golden.complete("fact.");
}

fn evidence() -> RtpEvidence {
    RtpEvidence {
        worker_id: worker(),
        producer_id: "0a1b2c3d-0000-4000-8000-000000000001".to_owned(),
        ssrc: 3_735_928_559,
        sequence_number: Some(65_535),
        rtp_timestamp: Some(4_294_967_295),
    }
}

#[test]
fn reasons_of_an_end() {
    let mut golden = Golden::default();
    golden.value("reasons", &EndReason::known().collect::<Vec<_>>());
    for reason in EndReason::known() {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    golden.complete("reasons");
}
