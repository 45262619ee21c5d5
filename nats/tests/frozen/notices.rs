//! Notices.

use contract::Role;
use contract::wire::fact::{Method, RtpDetected, RtpEvidence};
use contract::wire::notice::{Notice, NoticeKind};
use contract::wire::payload::PayloadType;
use serde_json::Value;

use crate::golden::{Golden, generator};
use crate::values::{connected_at, parties, worker};

/// The schema of one kind of notice.
fn schema(kind: NoticeKind) -> Value {
    let schema = generator().into_root_schema_for::<Notice>().to_value();
    let variants = schema["oneOf"].as_array().unwrap().iter();
    let mut variants = variants.filter(|variant| variant["properties"]["type"]["const"] == kind.to_string());
    let mut variant = variants.next().unwrap().clone();
    variant["$defs"] = schema["$defs"].clone();
    variant
}

#[test]
fn notices() {
    let mut golden = Golden::default();
    for kind in NoticeKind::ALL {
        for notice in golden.forms(&format!("notice.{kind}"), &schema(*kind), |bytes| {
            PayloadType::of::<Notice>().recode(bytes)
        }) {
            assert_eq!(
                notice["type"],
                kind.to_string(),
                "the subject's token and the type are one"
            );
        }
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
