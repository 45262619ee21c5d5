//! The schema of the protocol, from which the browser library's types are made (`web/client`): every message both ways.
//!
//! Payloads that are written are the very types that write them. Requests are read by hand, for the sake of errors that
//! name the field, so their types stand here, and the tests below hold them against the reader.

use contract::wire::command::{Capabilities, Consumed, Direction, Done, Produced, TransportCreated};
use contract::wire::notice::Notice;
use contract::{CallId, OtomoId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{CallOver, CallRequested, CallTaken};
use super::problem::Code;
use super::request::RequestId;
use super::writing::ErrorPayload;
use super::{Problem, parse};
use crate::calls::snapshot::{Standing, Welcome};
use crate::schema_file;

const FILE: &str = "web/client/schema/protocol.schema.json";

/// Everything that is said over callpulse's WebSocket, version 1.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is of interest")]
struct Protocol {
    /// What a client may ask, by the type of the request.
    exchanges: Exchanges,
    /// What the server says.
    server_message: ServerMessage,
}

/// By the type of the request: what it bears, and what its answer bears.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of interest")]
struct Exchanges {
    call_request: Exchange<CallRequest, CallRequested<'static>>,
    call_accept: Exchange<OfCall, CallTaken<'static>>,
    call_reject: Exchange<OfCall, CallOver<'static>>,
    call_cancel: Exchange<OfCall, CallOver<'static>>,
    call_hangup: Exchange<OfCall, CallOver<'static>>,
    rtc_capabilities: Exchange<RtcCapabilities, Capabilities>,
    rtc_create_transport: Exchange<RtcCreateTransport, TransportCreated>,
    rtc_connect_transport: Exchange<RtcConnectTransport, Done>,
    rtc_produce: Exchange<RtcProduce, Produced>,
    rtc_consume: Exchange<RtcConsume, Consumed>,
    rtc_resume: Exchange<RtcResume, Done>,
}

#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is of interest")]
struct Exchange<Q, A> {
    request: Q,
    response: A,
}

/// WS-C01, of a user.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CallRequest {
    /// Who is to be called.
    otomo_id: OtomoId,
}

/// WS-C02
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct OfCall {
    /// The call.
    call_id: CallId,
}

/// RTC-01
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RtcCapabilities {
    /// The call; the party's only one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
}

/// RTC-02
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RtcCreateTransport {
    /// The call; the party's only one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// As the client sees it.
    direction: Direction,
}

/// RTC-03
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RtcConnectTransport {
    /// The call; the party's only one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// Which.
    transport_id: String,
    /// mediasoup `DtlsParameters` of the client: an object.
    dtls_parameters: Value,
}

/// RTC-04
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RtcProduce {
    /// The call; the party's only one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// On which transport.
    transport_id: String,
    /// `audio`.
    kind: String,
    /// mediasoup `RtpParameters` of what the client sends: an object.
    rtp_parameters: Value,
}

/// RTC-05
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RtcConsume {
    /// The call; the party's only one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// On which transport.
    transport_id: String,
    /// mediasoup `RtpCapabilities` of the client: an object.
    rtp_capabilities: Value,
}

/// RTC-06
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RtcResume {
    /// The call; the party's only one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<CallId>,
    /// Which.
    consumer_id: String,
}

/// What the server says.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of interest")]
enum ServerMessage {
    Own(OwnMessage),
    Notice(Notice),
}

/// What the node itself says.
#[derive(JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is of interest")]
enum OwnMessage {
    /// The first message: where the party's call stands.
    Welcome { payload: Welcome<'static> },
    /// That once more, after an outage in which a notice may have been missed.
    Snapshot { payload: Standing },
    /// The answer to a request.
    Response { id: RequestId, payload: Value },
    /// What is wrong with a request, or with a message that cannot be told from one.
    Error {
        id: Option<RequestId>,
        payload: ErrorPayload<'static>,
    },
}

fn schema() -> Value {
    schema_file::schema::<Protocol>()
}

#[test]
fn the_schema_file_matches_the_protocol() {
    schema_file::assert_matches::<Protocol>(FILE);
}

fn written(payload: impl Serialize) -> Value {
    serde_json::to_value(payload).unwrap()
}

fn samples() -> Vec<(&'static str, Value)> {
    let call_id: CallId = "call_1".parse().unwrap();
    let some = Some(call_id.clone());
    let id = || "id_1".to_owned();
    let of_call = written(OfCall { call_id });
    vec![
        (
            "call_request",
            written(CallRequest {
                otomo_id: "otomo_1".parse().unwrap(),
            }),
        ),
        ("call_accept", of_call.clone()),
        ("call_reject", of_call.clone()),
        ("call_cancel", of_call.clone()),
        ("call_hangup", of_call),
        ("rtc_capabilities", written(RtcCapabilities { call_id: some.clone() })),
        (
            "rtc_create_transport",
            written(RtcCreateTransport {
                call_id: some.clone(),
                direction: Direction::Recv,
            }),
        ),
        (
            "rtc_connect_transport",
            written(RtcConnectTransport {
                call_id: some.clone(),
                transport_id: id(),
                dtls_parameters: json!({}),
            }),
        ),
        (
            "rtc_produce",
            written(RtcProduce {
                call_id: some.clone(),
                transport_id: id(),
                kind: "audio".to_owned(),
                rtp_parameters: json!({}),
            }),
        ),
        (
            "rtc_consume",
            written(RtcConsume {
                call_id: some.clone(),
                transport_id: id(),
                rtp_capabilities: json!({}),
            }),
        ),
        (
            "rtc_resume",
            written(RtcResume {
                call_id: some,
                consumer_id: id(),
            }),
        ),
    ]
}

/// What the reader takes is what the schema says: every request, with exactly those fields required.
#[test]
fn requests_are_read_as_the_schema_has_them() {
    let schema = schema();
    let exchanges = &schema["$defs"]["Exchanges"]["properties"];
    let samples = samples();
    let names: Vec<&str> = samples.iter().map(|(name, _)| *name).collect();
    let mut described: Vec<&str> = exchanges.as_object().unwrap().keys().map(String::as_str).collect();
    described.sort_by_key(|name| names.iter().position(|other| other == name));
    assert_eq!(described, names);
    for (name, payload) in samples {
        let read = |payload: &Value| parse(&json!({ "type": name, "id": 1, "payload": payload }).to_string());
        assert_eq!(read(&payload).unwrap().1.name(), name);
        let reference = exchanges[name]["properties"]["request"]["$ref"].as_str().unwrap();
        let request = &schema["$defs"][reference.trim_start_matches("#/$defs/")];
        let required: Vec<&str> = request["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for field in request["properties"].as_object().unwrap().keys() {
            let mut without = payload.clone();
            without.as_object_mut().unwrap().remove(field).unwrap();
            assert_eq!(
                read(&without).is_err(),
                required.contains(&field.as_str()),
                "{name}: {field}"
            );
        }
    }
}

#[test]
fn every_error_code_is_in_the_schema() {
    let schema = schema();
    let text = schema["$defs"]["ErrorCode"].to_string() + &schema["$defs"]["RefusalCode"].to_string();
    let own = [
        Code::BadJson,
        Code::BadMessage,
        Code::UnknownType,
        Code::InvalidId,
        Code::BinaryUnsupported,
        Code::SelfReportForbidden,
        Code::RateLimited,
        Code::RoleForbidden,
        Code::Busy,
        Code::UnknownCall,
        Code::NotAParty,
        Code::WrongState,
        Code::NoWorker,
        Code::WorkerUnreachable,
        Code::Unavailable,
    ];
    for code in own {
        // One that is added must be added above too.
        match code {
            Code::BadJson
            | Code::BadMessage
            | Code::UnknownType
            | Code::InvalidId
            | Code::BinaryUnsupported
            | Code::SelfReportForbidden
            | Code::RateLimited
            | Code::RoleForbidden
            | Code::Busy
            | Code::UnknownCall
            | Code::NotAParty
            | Code::WrongState
            | Code::NoWorker
            | Code::WorkerUnreachable
            | Code::Unavailable
            | Code::Worker(_) => {}
        }
        assert!(text.contains(&format!("\"{}\"", code.as_str())), "{code:?}");
    }
}

/// The envelopes are written by hand as well.
#[test]
fn own_messages_are_written_as_the_schema_has_them() {
    let id = RequestId::Number(7.into());
    let problem = Problem::new(Code::Busy, "words");
    for (text, keys) in [
        (super::response(&id, &json!({})), vec!["id", "payload", "type"]),
        (super::error(Some(&id), &problem), vec!["id", "payload", "type"]),
        (super::error(None, &problem), vec!["id", "payload", "type"]),
        (
            super::message("snapshot", Standing { active_call: None }),
            vec!["payload", "type"],
        ),
    ] {
        let written: Value = serde_json::from_str(&text).unwrap();
        let written = written.as_object().unwrap();
        assert_eq!(written.keys().collect::<Vec<_>>(), keys);
        let schema = schema();
        let variants = schema["$defs"]["OwnMessage"]["oneOf"].as_array().unwrap();
        let variant = variants
            .iter()
            .find(|variant| variant["properties"]["type"]["const"] == written["type"])
            .unwrap();
        let mut required: Vec<&str> = variant["required"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        required.sort_unstable();
        assert_eq!(required, keys);
    }
}
