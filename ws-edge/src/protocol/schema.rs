//! The schema of the protocol, from which the browser library's types are generated (`web/client`): every message both ways.

use contract::wire::notice::Notice;
use contract::wire::request::Exchanges;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::envelope::{ErrorPayload, RequestId};
use super::{Code, Problem, parse};
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

/// Every request, with a payload that has all fields.
fn requests() -> Vec<(&'static str, Value)> {
    let call = json!({ "callId": "call_1" });
    let in_call = |more: Value| {
        let mut payload = call.clone();
        payload
            .as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        payload
    };
    vec![
        ("call_accept", call.clone()),
        ("call_cancel", call.clone()),
        ("call_hangup", call.clone()),
        ("call_reject", call.clone()),
        ("call_request", json!({ "otomoId": "otomo_1" })),
        ("rtc_capabilities", call.clone()),
        (
            "rtc_connect_transport",
            in_call(json!({ "transportId": "t", "dtlsParameters": {} })),
        ),
        (
            "rtc_consume",
            in_call(json!({ "transportId": "t", "rtpCapabilities": {} })),
        ),
        ("rtc_create_transport", in_call(json!({ "direction": "recv" }))),
        (
            "rtc_produce",
            in_call(json!({ "transportId": "t", "kind": "audio", "rtpParameters": {} })),
        ),
        ("rtc_resume", in_call(json!({ "consumerId": "c" }))),
    ]
}

#[test]
fn requests_are_accepted_with_exactly_the_required_fields_of_the_schema() {
    let schema = schema();
    let exchanges = schema["$defs"]["Exchanges"]["properties"].as_object().unwrap();
    let requests = requests();
    let names: Vec<&str> = requests.iter().map(|(name, _)| *name).collect();
    assert_eq!(exchanges.keys().collect::<Vec<_>>(), names);
    for (name, payload) in requests {
        let read = |payload: &Value| parse(&json!({ "type": name, "id": 1, "payload": payload }).to_string());
        assert_eq!(read(&payload).unwrap().1.name(), name);
        let reference = exchanges[name]["properties"]["request"]["$ref"].as_str().unwrap();
        let request = &schema["$defs"][reference.trim_start_matches("#/$defs/")];
        let fields = request["properties"].as_object().unwrap();
        assert_eq!(
            fields.keys().collect::<Vec<_>>(),
            payload.as_object().unwrap().keys().collect::<Vec<_>>()
        );
        let required: Vec<&str> = request["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for field in fields.keys() {
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
