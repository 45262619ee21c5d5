//! Bad input: it is answered with a typed error or a rejection, and affects no other client.

use std::time::Duration;

use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::{Handshake, Party, Received};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::token::{self, Role, TokenDefect};
use contract::jetstream::storage::PARKED;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::common::{assert_refused, connect, edge, names, pair, user};

const SOON: Duration = Duration::from_secs(10);

/// The next error, to any request or none.
async fn error(party: &Party) -> (Value, String, String) {
    let received = party.expect_notice("error").await.unwrap();
    let text = |received: &Received, key: &str| received.payload()[key].as_str().unwrap().to_owned();
    (
        received.message["id"].clone(),
        text(&received, "code"),
        text(&received, "message"),
    )
}

/// The number of parked messages.
async fn parked(facts: &Facts) -> u64 {
    let jetstream = async_nats::jetstream::new(facts.client().clone());
    let stream = jetstream.get_stream(PARKED).await.unwrap();
    stream.cached_info().state.messages
}

#[tokio::test]
async fn a_malformed_request_gets_a_typed_error_and_the_socket_stays_open() {
    let stack = edge().workers(1).start().await.unwrap();
    let party = user(&stack, "user_001").await;
    let long = "x".repeat(65);
    let cases: Vec<(String, Value, &str)> = vec![
        ("hello".into(), Value::Null, "bad_json"),
        (String::new(), Value::Null, "bad_json"),
        ("{\"type\":".into(), Value::Null, "bad_json"),
        ("[".repeat(5_000), Value::Null, "bad_json"),
        ("7".into(), Value::Null, "bad_message"),
        (json!({ "id": 1 }).to_string(), json!(1), "bad_message"),
        (json!({ "type": 5, "id": 2 }).to_string(), json!(2), "bad_message"),
        (
            r#"{"type":"rtc_capabilities","id":99999999999999999999}"#.into(),
            Value::Null,
            "bad_message",
        ),
        (
            json!({ "type": "call_dance", "id": "a" }).to_string(),
            json!("a"),
            "unknown_type",
        ),
        (
            json!({ "type": "call_request", "payload": { "otomoId": "o" } }).to_string(),
            Value::Null,
            "bad_message",
        ),
        (
            json!({ "type": "call_request", "id": [], "payload": {} }).to_string(),
            Value::Null,
            "bad_message",
        ),
        (
            json!({ "type": "call_request", "id": long, "payload": {} }).to_string(),
            Value::Null,
            "bad_message",
        ),
        (
            json!({ "type": "call_request", "id": 3, "payload": {} }).to_string(),
            json!(3),
            "bad_message",
        ),
        (
            json!({ "type": "call_request", "id": 4, "payload": 7 }).to_string(),
            json!(4),
            "bad_message",
        ),
        (
            json!({ "type": "call_request", "id": 5, "payload": { "otomoId": 7 } }).to_string(),
            json!(5),
            "bad_message",
        ),
    ];
    for (text, id, code) in cases {
        party.send_raw(Message::text(text.clone())).await.unwrap();
        let (answered, found, message) = error(&party).await;
        assert_eq!((answered, found.as_str()), (id, code), "{text}: {message}");
    }
    party.send_raw(Message::binary(vec![0, 159, 146, 150])).await.unwrap();
    assert_eq!(error(&party).await.1, "binary_unsupported");
    assert!(party.refused("call_request", json!({ "otomoId": null })).await.unwrap() == "bad_message");
    party
        .request("call_request", json!({ "otomoId": "otomo_777" }))
        .await
        .unwrap();
}

#[tokio::test]
async fn identifiers_that_are_not_subject_tokens_are_refused() {
    let stack = edge()
        .set("ws-edge", "limits.message_burst", 1000)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let party = user(&stack, "user_001").await;
    for id in ["a.b", "*", ">", "a b", "", "音", "a\n", &"x".repeat(65)] {
        for (kind, field) in [
            ("call_request", "otomoId"),
            ("call_accept", "callId"),
            ("call_cancel", "callId"),
            ("call_hangup", "callId"),
            ("call_status", "callId"),
            ("rtc_capabilities", "callId"),
        ] {
            let code = party.refused(kind, json!({ field: id })).await.unwrap();
            assert_eq!(code, "invalid_id", "{kind} {id:?}");
        }
    }
    assert!(facts.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn requests_about_unknown_and_foreign_calls_have_distinct_error_codes() {
    let stack = edge()
        .workers(1)
        .set("ws-edge", "limits.message_burst", 1000)
        .start()
        .await
        .unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let (thief, other) = (
        user(&stack, "user_002").await,
        connect(&stack, 0, Role::Otomo, "otomo_2").await,
    );
    let unknown = json!({ "callId": "call_nobody_knows" });
    let transport = json!({ "callId": call.call_id, "direction": "send" });
    let video = json!({ "transportId": "t", "kind": "video", "rtpParameters": {} });
    for (party, kind, payload, expected) in [
        (&thief, "call_cancel", &unknown, "unknown_call"),
        (&thief, "call_hangup", &unknown, "unknown_call"),
        (&thief, "call_status", &unknown, "unknown_call"),
        (&thief, "rtc_capabilities", &unknown, "unknown_call"),
        (&thief, "rtc_capabilities", &json!({}), "unknown_call"),
        (&thief, "call_cancel", &call.id(), "not_a_party"),
        (&thief, "call_hangup", &call.id(), "not_a_party"),
        (&thief, "call_status", &call.id(), "not_a_party"),
        (&thief, "rtc_capabilities", &call.id(), "not_a_party"),
        (&thief, "rtc_create_transport", &transport, "not_a_party"),
        (&other, "call_accept", &call.id(), "not_a_party"),
        (&other, "call_reject", &call.id(), "not_a_party"),
        (&call.user, "rtc_produce", &video, "audio_only"),
        (&call.user, "call_cancel", &call.id(), "wrong_state"),
    ] {
        let code = party.refused(kind, payload.clone()).await.unwrap();
        assert_eq!(code, expected, "{kind} {payload}");
    }
}

#[tokio::test]
async fn a_claim_to_be_connected_is_refused_and_changes_nothing() {
    let stack = edge().workers(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let kinds = [
        "webrtc_connected",
        "call_connected",
        "connected",
        "rtp_detected",
        "tick",
        "call_ended",
        "media_resumed",
    ];
    for kind in kinds {
        for party in call.parties() {
            assert_refused(party, kind, call.id(), "self_report_forbidden").await;
        }
    }
    assert_eq!(names(&facts, &call.call_id).await, ["requested", "accepted"]);
    for party in call.parties() {
        assert!(kinds.iter().all(|kind| party.received_of(kind).is_empty()));
    }
    let counted = stack.edges[0].metric("callpulse_ws_self_reports_total").await.unwrap();
    assert_eq!(counted, Some(2.0 * kinds.len() as f64));
}

#[tokio::test]
async fn bad_tokens_and_foreign_origins_are_rejected_at_the_handshake() {
    let stack = edge()
        .set("ws-edge", "allowed_origins", "https://app.example")
        .start()
        .await
        .unwrap();
    let address = stack.edge(0).unwrap();
    let good = || token::valid(Role::User, "user_001").unwrap();
    let status = async |handshake: Handshake| Party::rejected(address, &handshake).await.unwrap();
    for how in TokenDefect::ALL {
        let token = token::invalid(Role::User, "user_001", how).unwrap();
        assert_eq!(status(Handshake::bearer(token.clone())).await, 401, "{how:?}");
        let only_token = Handshake {
            subprotocols: vec![format!("bearer.{token}")],
            ..Handshake::default()
        };
        assert_eq!(status(only_token).await, 401, "{how:?}");
    }
    assert_eq!(status(Handshake::default()).await, 401);
    let with_origin = |origin: &str| Handshake {
        origin: Some(origin.to_owned()),
        ..Handshake::bearer(good())
    };
    assert_eq!(status(with_origin("https://evil.example")).await, 403);
    let at = |path: String| Handshake {
        path,
        ..Handshake::bearer(good())
    };
    assert_eq!(status(at("/elsewhere".to_owned())).await, 404);
    assert_eq!(status(at(format!("/ws?token={}", good()))).await, 400);

    let browser = Handshake {
        origin: Some("https://app.example".to_owned()),
        ..Handshake::browser(&good())
    };
    let party = Party::connect_with(address, "user_001", &browser).await.unwrap();
    party.expect_notice("welcome").await.unwrap();
}

/// Browsers hide a failed handshake from scripts. Theirs therefore succeeds, and the reason comes in a close frame.
#[tokio::test]
async fn a_browser_gets_the_reason_of_a_rejection_in_a_close_frame() {
    let stack = edge()
        .set("ws-edge", "allowed_origins", "https://app.example")
        .start()
        .await
        .unwrap();
    let address = stack.edge(0).unwrap();
    let rejected = async |handshake: Handshake| {
        let party = Party::connect_with(address, "user_001", &handshake).await.unwrap();
        // A request that it sends meanwhile is not read.
        let _ = party
            .send(json!({ "type": "call_request", "id": 1, "payload": { "otomoId": "otomo_777" } }))
            .await;
        let closed = party.until_closed(SOON).await.unwrap();
        for kind in ["welcome", "response", "error"] {
            assert!(party.received_of(kind).is_empty(), "{kind} to {handshake:?}");
        }
        closed
    };
    let handshakes = async |outcome: &str| {
        let line = format!("callpulse_ws_handshakes_total{{outcome=\"{outcome}\"}}");
        stack.edges[0].metric(&line).await.unwrap().unwrap_or_default()
    };
    for how in TokenDefect::ALL {
        let token = token::invalid(Role::User, "user_001", how).unwrap();
        let code = if matches!(how, TokenDefect::Expired) {
            "token_expired"
        } else {
            "token_invalid"
        };
        let before = handshakes(code).await;
        let closed = rejected(Handshake::browser(&token)).await;
        assert!(closed.starts_with("close frame 4401"), "{how:?}: {closed}");
        assert!(closed.contains(code), "{how:?}: {closed}");
        assert_eq!(handshakes(code).await, before + 1.0, "{how:?}");
    }
    let without = Handshake {
        subprotocols: vec!["callpulse.v1".to_owned()],
        ..Handshake::default()
    };
    let closed = rejected(without).await;
    assert!(
        closed.starts_with("close frame 4401") && closed.contains("token_missing"),
        "{closed}"
    );

    let operator = token::operator("alice", SOON).unwrap();
    let closed = rejected(Handshake::browser(&operator)).await;
    assert!(
        closed.starts_with("close frame 4403") && closed.contains("role_forbidden"),
        "{closed}"
    );
    // A foreign origin gets the same answer for a valid token and an invalid one.
    for token in [token::valid(Role::User, "user_001").unwrap(), "abc".to_owned()] {
        let foreign = Handshake {
            origin: Some("https://evil.example".to_owned()),
            ..Handshake::browser(&token)
        };
        let closed = rejected(foreign).await;
        assert!(
            closed.starts_with("close frame 4403") && closed.contains("origin_forbidden"),
            "{closed}"
        );
    }
    assert_eq!(handshakes("ok").await, 0.0);
    assert_eq!(handshakes("timeout").await, 0.0);
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    assert!(facts.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_undecodable_command_is_refused_with_json_counted_and_not_parked() {
    let stack = edge().start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let long: &str = format!("cmd.call.{}.terminate", "x".repeat(3_900)).leak();
    let cases = [
        (long, r#"{"by":"wallet"}"#),
        ("cmd.call.call_1.terminate", "not json"),
        ("cmd.call.call_1.terminate", "{}"),
        ("cmd.call.call_1.terminate", r#"{"by":"a b"}"#),
        ("cmd.call.call_1.terminate", r#"{"by":"wallet","reason":"whim"}"#),
        ("cmd.call.call$1.terminate", r#"{"by":"wallet"}"#),
    ];
    for (subject, payload) in cases {
        let answer = tokio::time::timeout(SOON, facts.client().request(subject, payload.into()))
            .await
            .unwrap()
            .unwrap();
        let refusal = answer
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Service-Error"))
            .unwrap();
        assert!(
            refusal.as_str().starts_with("bad_request: "),
            "{payload}: {}",
            refusal.as_str()
        );
        let body: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(body["code"], "bad_request", "{body}");
        assert!(body["message"].is_string(), "{body}");
    }
    // Quoted in both parts of the reply, it would exceed what NATS takes from a client.
    let quoted = format!(r#"{{"grantId":"g","untilMs":"{}"}}"#, "x".repeat(200_000));
    let answer = facts.client().request("cmd.call.call_1.grant", quoted.into());
    let answer = tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
    assert!(answer.payload.len() < 1_000, "{}", answer.payload.len());
    assert_eq!(parked(&facts).await, 0);
    let counted = stack.edges[0]
        .metric("callpulse_ws_undecodable_total{type=\"terminate\"}")
        .await
        .unwrap();
    assert_eq!(counted, Some(cases.len() as f64));
    assert!(!stack.edges[0].child().log_tail().contains("ERROR"));
}

#[tokio::test]
async fn a_request_that_grows_when_it_is_encoded_is_refused_and_not_parked() {
    let stack = edge().workers(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let numbers = vec!["1e9"; 6_000].join(",");
    let text = format!(
        r#"{{"type":"rtc_produce","id":"big","payload":{{"callId":"{}","transportId":"t","kind":"audio","rtpParameters":{{"codecs":[{numbers}]}}}}}}"#,
        call.call_id
    );
    call.user.send_raw(Message::text(text)).await.unwrap();
    let (id, code, message) = error(&call.user).await;
    assert_eq!((id, code.as_str()), (json!("big"), "bad_request"), "{message}");
    assert!(message.contains("at most 65536"), "{message}");
    assert_eq!(parked(&facts).await, 0);
    for service in [&stack.edges[0], &stack.workers[0]] {
        assert!(!service.child().log_tail().contains("ERROR"));
    }
}

#[tokio::test]
async fn an_invalid_notice_is_not_forwarded() {
    let stack = edge().start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let party = user(&stack, "user_001").await;
    let publish = async |payload: Vec<u8>| {
        facts
            .client()
            .publish("user.user_001.tick", payload.into())
            .await
            .unwrap()
    };
    publish(vec![0xff, 0xfe]).await;
    publish(vec![b'x'; 100_000]).await;
    publish(br#"{"type":"tick","payload":{}}"#.to_vec()).await;
    party.expect_notice("tick").await.unwrap();
    assert_eq!(
        party.received().len(),
        2,
        "the welcome and the tick: {:?}",
        party.received()
    );
}
