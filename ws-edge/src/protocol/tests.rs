use std::collections::BTreeSet;

use contract::wire::request::{
    self, CallRequest, InCall, Request, RtcCapabilities, RtcRequest, SignallingRequest, SocketRequest,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use strum::VariantNames;

use super::*;

fn code(text: &str) -> (Option<RequestId>, &'static str) {
    let unread = parse(text).unwrap_err();
    (unread.id, unread.problem.code.as_str())
}

fn problem(kind: &str, payload: &Value) -> Problem {
    parse(&json!({ "type": kind, "id": 1, "payload": payload }).to_string())
        .unwrap_err()
        .problem
}

/// Requests about one socket are not repeated on another one.
#[test]
fn the_browser_library_repeats_the_requests_that_may_be_repeated() {
    const LIBRARY: &str = include_str!("../../web/client/src/connection.ts");
    let (_, list) = LIBRARY.split_once("const REPEATABLE").unwrap();
    let (list, _) = list.split_once("]);").unwrap();
    let repeated: BTreeSet<&str> = list.split('\'').skip(1).step_by(2).collect();
    let of_one_socket = |name: &str| name == "ping" || SocketRequest::VARIANTS.contains(&name);
    let declared = request::declarations().filter(|request| !request.repeat.starts_with("no"));
    let repeatable: BTreeSet<&str> = declared
        .map(|request| request.name)
        .filter(|name| !of_one_socket(name))
        .collect();
    assert_eq!(repeated, repeatable);
}

#[test]
fn requests_are_read() {
    let text = r#"{"type":"call_request","id":"a","payload":{"otomoId":"otomo_777","more":1}}"#;
    let (id, request) = parse(text).unwrap();
    assert_eq!(id, RequestId::Text("a".to_owned()));
    assert_eq!(
        request,
        Request::Signalling(SignallingRequest::CallRequest(CallRequest {
            otomo_id: "otomo_777".parse().unwrap(),
            request_key: None,
        }))
    );
    let (id, request) = parse(r#"{"type":"rtc_capabilities","id":7}"#).unwrap();
    assert_eq!(id, RequestId::Number(7.into()));
    assert_eq!(
        request,
        Request::Rtc(InCall {
            call_id: None,
            request: RtcRequest::RtcCapabilities(RtcCapabilities {})
        })
    );
}

#[test]
fn a_malformed_request_gets_its_error_code() {
    assert_eq!(code("hello"), (None, "bad_json"));
    assert_eq!(code(""), (None, "bad_json"));
    assert_eq!(code(&"[".repeat(10_000)), (None, "bad_json"));
    assert_eq!(code("[]"), (None, "bad_message"));
    assert_eq!(code(r#"{"id":1}"#), (Some(RequestId::Number(1.into())), "bad_message"));
    assert_eq!(code(r#"{"type":7,"id":1}"#).1, "bad_message");
    assert_eq!(code(r#"{"type":"call_dance","id":1}"#).1, "unknown_type");
    assert_eq!(code(r#"{"type":"call_request"}"#), (None, "bad_message"));
    assert_eq!(code(r#"{"type":"call_request","id":{}}"#), (None, "bad_message"));
    for id in [
        "99999999999999999999",
        "-99999999999999999999",
        "1.5",
        "1e3",
        "true",
        "[]",
    ] {
        let text = format!(r#"{{"type":"rtc_capabilities","id":{id}}}"#);
        assert_eq!(code(&text), (None, "bad_message"), "{id}");
    }
    for id in ["9007199254740993", "18446744073709551615", "-9223372036854775808", "0"] {
        let (read, _) = parse(&format!(r#"{{"type":"rtc_capabilities","id":{id}}}"#)).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), id);
    }
    let long = "x".repeat(65);
    assert_eq!(
        code(&format!(r#"{{"type":"call_request","id":"{long}"}}"#)),
        (None, "bad_message")
    );
}

#[test]
fn errors_name_the_field() {
    for (kind, payload, message) in [
        ("call_request", json!({}), "payload: missing field `otomoId`"),
        (
            "call_accept",
            json!({ "callId": 7 }),
            "payload.callId: invalid type: integer `7`, expected a string",
        ),
        ("call_accept", json!([]), "payload: expected an object"),
        (
            "rtc_create_transport",
            json!({ "direction": "up" }),
            "payload.direction: unknown variant `up`, expected `send` or `recv`",
        ),
        (
            "rtc_create_transport",
            json!({ "direction": { "send": null } }),
            "payload.direction: invalid type: map, expected a string",
        ),
        (
            "rtc_produce",
            json!({ "transportId": 7, "kind": "audio", "rtpParameters": {} }),
            "payload.transportId: invalid type: integer `7`, expected a string",
        ),
        (
            "rtc_produce",
            json!({ "transportId": "t", "kind": "audio", "rtpParameters": "none" }),
            "payload.rtpParameters: expected an object",
        ),
        (
            "rtc_resume",
            json!({ "consumerId": "c", "callId": 7 }),
            "payload.callId: invalid type: integer `7`, expected a string",
        ),
    ] {
        let problem = problem(kind, &payload);
        assert_eq!(
            (problem.code, problem.message.as_str()),
            (Code::BadMessage, message),
            "{kind}"
        );
    }
}

#[test]
fn optional_fields_may_be_null_and_unknown_fields_are_ignored() {
    let call_id = |payload: Value| {
        let text = json!({ "type": "rtc_capabilities", "id": 1, "payload": payload, "more": 1 }).to_string();
        match parse(&text).unwrap().1 {
            Request::Rtc(request) => request.call_id,
            Request::Socket(_) | Request::Signalling(_) => None,
        }
    };
    assert_eq!(call_id(json!(null)), None);
    assert_eq!(call_id(json!({ "callId": null })), None);
    assert_eq!(
        call_id(json!({ "callId": "c", "more": {} })),
        Some("c".parse().unwrap())
    );
}

#[test]
fn errors_do_not_quote_long_input() {
    let problem = problem("rtc_create_transport", &json!({ "direction": "x".repeat(60_000) }));
    assert!(problem.message.len() < 300, "{}", problem.message.len());
}

#[test]
fn a_self_report_is_not_quoted_at_length_or_with_control_characters() {
    let kind = format!("webrtc_connected\n\u{1b}[2J{}", "connected".repeat(7_000));
    let text = json!({ "type": kind, "id": 1 }).to_string();
    let problem = parse(&text).unwrap_err().problem;
    assert_eq!(problem.code, Code::SelfReportForbidden);
    assert!(problem.message.len() < 300, "{}", problem.message.len());
    assert!(
        !problem.message.contains(|found: char| found.is_control()),
        "{:?}",
        problem.message
    );
}

#[test]
fn ids_that_would_be_subjects_are_refused() {
    for id in ["a.b", "*", ">", "a b", "", "\u{97f3}", &"x".repeat(65)] {
        assert_eq!(
            problem("call_request", &json!({ "otomoId": id })).code,
            Code::InvalidId,
            "{id}"
        );
        assert_eq!(
            problem("call_accept", &json!({ "callId": id })).code,
            Code::InvalidId,
            "{id}"
        );
        assert_eq!(
            problem("rtc_capabilities", &json!({ "callId": id })).code,
            Code::InvalidId,
            "{id}"
        );
    }
}

#[test]
fn self_reports_are_refused() {
    for kind in [
        "webrtc_connected",
        "call_connected",
        "connected",
        "rtp_detected",
        "tick",
        "call_ended",
        "call_accepted",
        "incoming_call",
        "media_lost",
        "media_resumed",
        "rtc_new_producer",
        "sfu_connected_now",
    ] {
        let text = json!({ "type": kind, "id": 1, "payload": { "callId": "c" } }).to_string();
        assert_eq!(
            code(&text),
            (Some(RequestId::Number(1.into())), "self_report_forbidden"),
            "{kind}"
        );
        assert_eq!(
            code(&json!({ "type": kind }).to_string()),
            (None, "self_report_forbidden"),
            "{kind}"
        );
    }
}

#[test]
fn answers_are_written_as_the_protocol_says() {
    let id = RequestId::Number(7.into());
    assert_eq!(
        &*response(&id, &json!({ "a": 1 })),
        r#"{"type":"response","id":7,"payload":{"a":1}}"#
    );
    let problem = Problem::new(Code::Busy, "the otomo");
    assert_eq!(
        &*error(None, &problem),
        r#"{"type":"error","id":null,"payload":{"code":"busy","message":"the otomo"}}"#
    );
    assert_eq!(&*message("snapshot", json!({})), r#"{"type":"snapshot","payload":{}}"#);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("type|id|payload|callId|otomoId|kind|.{0,4}", inner, 0..5)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_json_panics_and_every_error_is_encoded(
        kind in "call_[a-z]{0,7}|rtc_[a-z_]{0,17}|.{0,10}",
        id in any_json(),
        payload in any_json(),
    ) {
        let text = json!({ "type": kind, "id": id, "payload": payload }).to_string();
        if let Err(unread) = parse(&text) {
            let written: Value = serde_json::from_str(&error(unread.id.as_ref(), &unread.problem)).unwrap();
            prop_assert_eq!(&written["type"], "error");
        }
    }

    #[test]
    fn an_id_comes_back_as_it_was(id in "\\PC{0,64}") {
        let (read, _) = parse(&json!({ "type": "rtc_capabilities", "id": id }).to_string()).unwrap();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), Value::from(id));
    }
}
