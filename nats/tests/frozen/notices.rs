//! Notices.

use contract::Role;
use contract::wire::fact::{EndReason, Method, RtpDetected, RtpEvidence};
use contract::wire::notice::{Notice, NoticeKind};

use crate::golden::Golden;
use crate::values::{call, connected_at, ended_at, otomo, parties, time, user, worker};

#[test]
fn notices() {
    let (call_id, user_id, otomo_id) = (call(), user(), otomo());
    let notices = [
        Notice::IncomingCall {
            call_id: call_id.clone(),
            user_id: user_id.clone(),
            expires_at: time("2025-01-15T12:02:30.000Z"),
        },
        Notice::CallAccepted {
            call_id: call_id.clone(),
            user_id: user_id.clone(),
            otomo_id: otomo_id.clone(),
            accepted_at: time("2025-01-15T12:02:10.500Z"),
        },
        Notice::RtcNewProducer {
            call_id: call_id.clone(),
            producer_id: "0a1b2c3d-0000-4000-8000-000000000001".to_owned(),
        },
        Notice::RtcTransportReplaced {
            call_id: call_id.clone(),
            transport_id: "0a1b2c3d-0000-4000-8000-000000000002".to_owned(),
        },
        Notice::CallConnected {
            call_id: call_id.clone(),
            user_id,
            otomo_id,
            connected_at: connected_at(),
            method: Method::SfuRtpDetected,
        },
        Notice::Tick {
            call_id: call_id.clone(),
            minute: 1,
            at: time("2025-01-15T12:03:15.123Z"),
            connected_at: connected_at(),
        },
        Notice::MediaLost {
            call_id: call_id.clone(),
            party: Role::Otomo,
        },
        Notice::MediaResumed {
            call_id: call_id.clone(),
            party: Role::Otomo,
        },
        Notice::CreditGranted {
            call_id: call_id.clone(),
            until_ms: 240_000,
        },
        Notice::CreditLow {
            call_id: call_id.clone(),
            remaining_ms: 60_000,
            until_ms: 120_000,
        },
        Notice::CallEnded {
            call_id,
            ended_at: ended_at(),
            reason: EndReason::Hangup,
            duration_ms: 149_877,
            billed_minutes: 2,
        },
    ];
    let mut golden = Golden::default();
    let kinds: Vec<NoticeKind> = notices.iter().map(NoticeKind::from).collect();
    assert_eq!(kinds, NoticeKind::ALL, "every kind of notice");
    for notice in &notices {
        golden.value(&format!("notice.{}", notice.name()), notice);
        let wire: serde_json::Value = serde_json::from_slice(&notice.encode().unwrap()).unwrap();
        assert_eq!(wire["type"], notice.name(), "the subject's token and the type are one");
    }
    golden.complete("notice.");
}

/// WS-S04, from the specification that callpulse grew from: exactly these fields, in this order.
#[test]
fn call_connected_has_the_fields_of_the_specification() {
    let fact = RtpDetected {
        parties: parties(),
        connected_at: connected_at(),
        method: Method::SfuRtpDetected,
        detected_from: Role::Otomo,
        evidence: RtpEvidence {
            worker_id: worker(),
            producer_id: "p".to_owned(),
            ssrc: 1,
            sequence_number: Some(1),
            rtp_timestamp: Some(1),
        },
        terms: None,
    };
    let wire = fact.notice().unwrap().encode().unwrap();
    let specified = concat!(
        r#"{"type":"call_connected","payload":{"callId":"call_abc123","userId":"user_001","otomoId":"otomo_777","#,
        r#""connectedAt":"2025-01-15T12:02:15.123Z","method":"sfu_rtp_detected"}}"#
    );
    assert_eq!(String::from_utf8_lossy(&wire), specified);
}
