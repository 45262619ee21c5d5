//! What is on the wire, frozen: every fact, notice, command, reply and stored value against a file in `golden/`, both ways.
//!
//! A change here changes what other versions and other teams read. Where it is meant, run the tests with
//! `CALLPULSE_REWRITE_GOLDEN=1` and look at the difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use nats::active_calls::{Acceptance, ActiveCall};
use nats::billing_book::{BillingEnd, BillingEntry};
use nats::command::*;
use nats::fact::*;
use nats::fleet::WorkerStatus;
use nats::leases::{Instance, Lease, Partition};
use nats::notice::Notice;
use nats::{CallId, Fact, FactKind, OtomoId, Parties, Role, Timestamp, TraceParent, UserId, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

const REWRITE: &str = "CALLPULSE_REWRITE_GOLDEN";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The golden files that a test has compared.
#[derive(Default)]
struct Golden {
    seen: BTreeSet<String>,
}

impl Golden {
    /// `bytes` must be what the file has (which ends in a newline more), and `back` must read the file as what was written.
    fn compare(&mut self, name: &str, bytes: &[u8], back: impl Fn(&[u8])) {
        assert!(self.seen.insert(format!("{name}.json")), "{name} twice");
        let path = folder().join(format!("{name}.json"));
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(&path, [bytes, b"\n"].concat()).unwrap();
        }
        let file =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; set {REWRITE}=1 once", path.display()));
        let file = file.strip_suffix(b"\n").expect("a golden file ends in a newline");
        assert_eq!(
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(file),
            "{name} is written otherwise"
        );
        back(file);
    }

    fn value<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        self.compare(name, &serde_json::to_vec(value).unwrap(), |file| {
            assert_eq!(
                serde_json::from_slice::<T>(file).unwrap(),
                *value,
                "{name} is read otherwise"
            );
        });
    }

    fn fact(&mut self, name: &str, fact: impl Into<Fact>) -> FactKind {
        let fact = fact.into();
        self.compare(&format!("fact.{name}"), &fact.encode().unwrap(), |file| {
            assert_eq!(
                Fact::decode(&fact.subject(), file).unwrap(),
                fact,
                "{name} is read otherwise"
            );
        });
        fact.kind()
    }

    fn operation<O>(&mut self, request: &O, reply: &O::Reply) -> &'static str
    where
        O: MediaOperation + PartialEq + Debug,
        O::Reply: PartialEq + Debug,
    {
        self.value(&format!("command.{}.request", O::NAME), request);
        self.value(&format!("command.{}.reply", O::NAME), reply);
        O::NAME
    }

    /// No file of this kind is left that nothing is compared with.
    fn complete(self, prefix: &str) {
        let files = std::fs::read_dir(folder())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(files, self.seen);
    }
}

fn time(text: &str) -> Timestamp {
    serde_json::from_value(json!(text)).unwrap()
}

fn connected_at() -> Timestamp {
    time("2025-01-15T12:02:15.123Z")
}

fn ended_at() -> Timestamp {
    time("2025-01-15T12:04:45.000Z")
}

fn call() -> CallId {
    "call_abc123".parse().unwrap()
}

fn user() -> UserId {
    "user_001".parse().unwrap()
}

fn otomo() -> OtomoId {
    "otomo_777".parse().unwrap()
}

fn worker() -> WorkerId {
    "mw_1".parse().unwrap()
}

fn parties() -> Parties {
    Parties {
        call_id: call(),
        user_id: user(),
        otomo_id: otomo(),
    }
}

fn asker() -> Asker {
    Asker {
        call_id: call(),
        role: Role::User,
        party_id: "user_001".to_owned(),
    }
}

fn trace() -> TraceParent {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap()
}

#[test]
fn facts() {
    let mut golden = Golden::default();
    let kinds = [
        golden.fact(
            "requested",
            Requested {
                parties: parties(),
                requested_at: time("2025-01-15T12:02:00.000Z"),
            },
        ),
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
                worker_id: worker(),
                producer_id: "0a1b2c3d-0000-4000-8000-000000000001".to_owned(),
                ssrc: 3_735_928_559,
            },
        ),
        golden.fact(
            "rtp_lost",
            RtpLost {
                parties: parties(),
                party: Role::Otomo,
                last_rtp_at: time("2025-01-15T12:03:00.250Z"),
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
            },
        ),
    ];
    assert_eq!(kinds, FactKind::ALL, "every kind of fact, in the order of a call");

    golden.fact(
        "ended.never_connected",
        Ended {
            parties: parties(),
            ended_at: ended_at(),
            reason: EndReason::NoAnswer,
            by: "edge_1".to_owned(),
            connected_at: None,
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
        },
    );
    golden.complete("fact.");
}

#[test]
fn reasons_of_an_end() {
    let mut golden = Golden::default();
    let all = [
        EndReason::Hangup,
        EndReason::Rejected,
        EndReason::Cancelled,
        EndReason::NoAnswer,
        EndReason::MediaTimeout,
        EndReason::RtpTimeout,
        EndReason::WorkerLost,
        EndReason::WorkerShutdown,
        EndReason::MaxDuration,
        EndReason::Terminated,
    ];
    golden.value("reasons", &all.to_vec());
    golden.complete("reasons");
}

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
        Notice::CallEnded {
            call_id,
            ended_at: ended_at(),
            reason: EndReason::Hangup,
            duration_ms: 149_877,
            billed_minutes: 2,
        },
    ];
    let mut golden = Golden::default();
    for notice in &notices {
        // A notice that is added must be added above too.
        match notice {
            Notice::IncomingCall { .. }
            | Notice::CallAccepted { .. }
            | Notice::RtcNewProducer { .. }
            | Notice::CallConnected { .. }
            | Notice::Tick { .. }
            | Notice::MediaLost { .. }
            | Notice::MediaResumed { .. }
            | Notice::CallEnded { .. } => {}
        }
        golden.value(&format!("notice.{}", notice.name()), notice);
        let wire: serde_json::Value = serde_json::from_slice(&notice.encode().unwrap()).unwrap();
        assert_eq!(wire["type"], notice.name(), "the subject's token and the type are one");
    }
    golden.complete("notice.");
}

/// WS-S04, from the specification that callpulse grew from: exactly these fields, in this order.
#[test]
fn call_connected_is_what_the_specification_says() {
    let fact = RtpDetected {
        parties: parties(),
        connected_at: connected_at(),
        method: Method::SfuRtpDetected,
        detected_from: Role::Otomo,
        worker_id: worker(),
        producer_id: "p".to_owned(),
        ssrc: 1,
    };
    let wire = Notice::connected(&fact).encode().unwrap();
    let specified = concat!(
        r#"{"type":"call_connected","payload":{"callId":"call_abc123","userId":"user_001","otomoId":"otomo_777","#,
        r#""connectedAt":"2025-01-15T12:02:15.123Z","method":"sfu_rtp_detected"}}"#
    );
    assert_eq!(String::from_utf8_lossy(&wire), specified);
}

#[test]
fn commands() {
    let mut golden = Golden::default();
    let names = [
        golden.operation(
            &OpenCall { parties: parties() },
            &CallOpened {
                media_deadline: ended_at(),
            },
        ),
        golden.operation(
            &GetCapabilities { asker: asker() },
            &Capabilities {
                rtp_capabilities: json!({ "codecs": [], "headerExtensions": [] }),
            },
        ),
        golden.operation(
            &CreateTransport {
                asker: asker(),
                direction: Direction::Send,
            },
            &TransportCreated {
                id: "t1".to_owned(),
                ice_parameters: json!({ "usernameFragment": "u", "password": "p", "iceLite": true }),
                ice_candidates: json!([{ "address": "127.0.0.1", "ip": "127.0.0.1" }]),
                dtls_parameters: json!({ "role": "auto", "fingerprints": [] }),
            },
        ),
        golden.operation(
            &ConnectTransport {
                asker: asker(),
                transport_id: "t1".to_owned(),
                dtls_parameters: json!({ "role": "client", "fingerprints": [] }),
            },
            &Done {},
        ),
        golden.operation(
            &Produce {
                asker: asker(),
                transport_id: "t1".to_owned(),
                kind: "audio".to_owned(),
                rtp_parameters: json!({ "codecs": [] }),
            },
            &Produced {
                producer_id: "p1".to_owned(),
            },
        ),
        golden.operation(
            &Consume {
                asker: asker(),
                transport_id: "t2".to_owned(),
                rtp_capabilities: json!({ "codecs": [] }),
            },
            &Consumed {
                consumer_id: "c1".to_owned(),
                producer_id: "p1".to_owned(),
                kind: "audio".to_owned(),
                rtp_parameters: json!({ "codecs": [] }),
            },
        ),
        golden.operation(
            &ResumeConsumer {
                asker: asker(),
                consumer_id: "c1".to_owned(),
            },
            &Done {},
        ),
        golden.operation(
            &CloseCall {
                call_id: call(),
                end: Some(End {
                    reason: EndReason::Hangup,
                    by: "user".to_owned(),
                }),
            },
            &CallClosed {
                ended_at: Some(ended_at()),
                connected_at: Some(connected_at()),
            },
        ),
        golden.operation(
            &ReportCalls {
                limit: 500,
                after: Some("call_0".parse().unwrap()),
            },
            &CallsReported {
                calls: vec![CallMedia {
                    call_id: call(),
                    user: Some(PartyMedia {
                        last_rtp_at: connected_at(),
                        lost: false,
                        packets: 50,
                    }),
                    otomo: None,
                }],
                more: false,
            },
        ),
    ];
    assert_eq!(names, MEDIA_OPERATIONS, "every operation");

    golden.value(
        "command.close_call.request.unaccepted",
        &CloseCall {
            call_id: call(),
            end: None,
        },
    );
    golden.value(
        "command.close_call.reply.unaccepted",
        &CallClosed {
            ended_at: None,
            connected_at: None,
        },
    );
    golden.value(
        "command.terminate.request",
        &Terminate {
            reason: EndReason::MaxDuration,
            by: "wallet".to_owned(),
        },
    );
    golden.value("command.report_edge.request", &ReportEdge {});
    golden.value(
        "command.report_edge.reply",
        &EdgeReported {
            node_id: "edge_1".parse().unwrap(),
            sockets: 7,
            operators: 1,
            at: ended_at(),
            started_at: connected_at(),
        },
    );
    golden.complete("command.");

    let brief: Terminate = serde_json::from_str(r#"{"by":"wallet"}"#).unwrap();
    assert_eq!(brief.reason, EndReason::Terminated);
}

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
            at: ended_at(),
            started_at: connected_at(),
        },
    );
    golden.value(
        "bucket.active_calls",
        &ActiveCall {
            parties: parties(),
            node_id: "edge_1".parse().unwrap(),
            requested_at: time("2025-01-15T12:02:00.000Z"),
            ring_deadline: time("2025-01-15T12:02:30.000Z"),
            accepted: Some(Acceptance {
                accepted_at: time("2025-01-15T12:02:10.500Z"),
                worker_id: worker(),
                media_deadline: time("2025-01-15T12:02:40.500Z"),
            }),
            traceparent: trace(),
        },
    );
    golden.value(
        "bucket.billing_active",
        &BillingEntry {
            parties: parties(),
            connected_at: Some(connected_at()),
            end: Some(BillingEnd {
                ended_at: ended_at(),
                reason: EndReason::Hangup,
            }),
            traceparent: trace(),
        },
    );
    golden.value(
        "bucket.billing_leases.instance",
        &Instance {
            instance_id: "billing_1".parse().unwrap(),
            at: ended_at(),
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

#[test]
fn readers_ignore_what_they_do_not_know_and_refuse_what_contradicts_itself() {
    let later =
        r#"{"callId":"c","userId":"u","otomoId":"o","requestedAt":"2025-01-15T12:02:00.000Z","addedLater":{"x":1}}"#;
    assert!(Fact::decode("call.c.requested", later.as_bytes()).is_ok());
    assert!(matches!(
        Fact::decode("call.other.requested", later.as_bytes()),
        Err(DecodeError::OtherCall { .. })
    ));
    assert!(matches!(
        Fact::decode("call.c.accepted", later.as_bytes()),
        Err(DecodeError::Payload { .. })
    ));
    assert!(matches!(
        Fact::decode("call.c.unheard_of", later.as_bytes()),
        Err(DecodeError::Subject(_))
    ));
    let injected = later.replace(r#""userId":"u""#, r#""userId":"u.>""#);
    assert!(matches!(
        Fact::decode("call.c.requested", injected.as_bytes()),
        Err(DecodeError::Payload { .. })
    ));
}

/// Instances of different versions must agree on which calls are whose.
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
