//! Commands and their replies.

use contract::wire::command::*;
use contract::wire::credit::{Authorization, Authorize, Denial, Grant};
use contract::wire::fact::EndReason;
use contract::wire::request::*;
use serde_json::json;

use crate::golden::Golden;
use crate::values::{call, connected_at, ended_at, parties, relayed, terms};

fn grant() -> Grant {
    Grant {
        grant_id: "grant_2".parse().unwrap(),
        until_ms: 240_000,
    }
}

#[test]
fn commands() {
    let mut golden = Golden::default();
    let names = [
        golden.operation(
            &OpenCall::new(parties()),
            &CallOpened {
                media_deadline: ended_at(),
                media_timeout_ms: Some(30_000),
            },
        ),
        golden.operation(
            &GrantCredit {
                call_id: call(),
                grant: grant(),
            },
            &CreditExtended {
                until_ms: 240_000,
                superseded: false,
            },
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
        golden.operation(
            &Cordon {},
            &CordonState {
                cordoned: true,
                calls: 3,
            },
        ),
        golden.operation(
            &Uncordon {},
            &CordonState {
                cordoned: false,
                calls: 3,
            },
        ),
        golden.operation(
            &relayed(RtcCapabilities {}),
            &Capabilities {
                rtp_capabilities: json!({ "codecs": [], "headerExtensions": [] }),
            },
        ),
        golden.operation(
            &relayed(RtcCreateTransport {
                direction: Direction::Send,
            }),
            &TransportCreated {
                id: "t1".to_owned(),
                ice_parameters: json!({ "usernameFragment": "u", "password": "p", "iceLite": true }),
                ice_candidates: json!([{ "address": "127.0.0.1", "ip": "127.0.0.1" }]),
                dtls_parameters: json!({ "role": "auto", "fingerprints": [] }),
                ice_servers: None,
            },
        ),
        golden.operation(
            &relayed(RtcConnectTransport {
                transport_id: "t1".to_owned(),
                dtls_parameters: json!({ "role": "client", "fingerprints": [] }),
            }),
            &Done {},
        ),
        golden.operation(
            &relayed(RtcProduce {
                transport_id: "t1".to_owned(),
                kind: "audio".to_owned(),
                rtp_parameters: json!({ "codecs": [] }),
            }),
            &Produced {
                producer_id: "p1".to_owned(),
            },
        ),
        golden.operation(
            &relayed(RtcConsume {
                transport_id: "t2".to_owned(),
                rtp_capabilities: json!({ "codecs": [] }),
            }),
            &Consumed {
                consumer_id: "c1".to_owned(),
                producer_id: "p1".to_owned(),
                kind: "audio".to_owned(),
                rtp_parameters: json!({ "codecs": [] }),
            },
        ),
        golden.operation(
            &relayed(RtcResume {
                consumer_id: "c1".to_owned(),
            }),
            &Done {},
        ),
        golden.operation(
            &relayed(RtcRestartIce {
                transport_id: "t1".to_owned(),
            }),
            &IceRestarted {
                ice_parameters: json!({ "usernameFragment": "v", "password": "q", "iceLite": true }),
            },
        ),
    ];
    assert!(names.into_iter().eq(media_operations()), "every operation");

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
    golden.value(
        "command.open_call.request.credit",
        &OpenCall {
            until_ms: Some(120_000),
            grant_id: Some("grant_1".parse().unwrap()),
            ..OpenCall::new(parties())
        },
    );
    golden.value("command.grant.request", &ExtendCall { grant: grant() });
    golden.value("command.authorize.request", &Authorize { parties: parties() });
    golden.value(
        "command.authorize.reply",
        &Authorization::Allowed {
            grant: grant(),
            terms: None,
        },
    );
    golden.value(
        "command.authorize.reply.terms",
        &Authorization::Allowed {
            grant: grant(),
            terms: Some(terms()),
        },
    );
    golden.value(
        "command.authorize.reply.denied",
        &Authorization::Denied(Denial {
            code: "insufficient_balance".to_owned(),
            message: "The balance does not cover one minute.".to_owned(),
        }),
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
