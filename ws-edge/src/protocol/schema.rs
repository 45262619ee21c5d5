//! The schema of the protocol, from which the browser library's types are generated (`web/client`): every message both ways.

use contract::jetstream::request::RefusalCode;
use contract::wire::notice::Notice;
use contract::wire::request::Exchanges;
use schemars::JsonSchema;
use serde_json::{Value, json};
use strum::VariantNames;

use super::envelope::{ErrorPayload, RequestId};
use super::{Code, Problem, Snapshot, Welcome, parse};
use crate::schema_file;

const FILE: &str = "web/client/schema/protocol.schema.json";

/// All messages of callpulse's WebSocket, version 1.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is of interest")]
struct Protocol {
    /// Requests of clients, by type.
    exchanges: Exchanges,
    /// Messages of the server.
    server_message: ServerMessage,
}

/// Messages of the server.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is of interest")]
enum ServerMessage {
    Own(OwnMessage),
    Notice(Notice),
}

/// Messages of the node itself.
#[derive(JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is of interest")]
enum OwnMessage {
    /// The first message: the state of the party's call.
    Welcome { payload: Welcome<'static> },
    /// The state of the party's call, after an outage in which a notice may have been missed.
    Snapshot { payload: Snapshot },
    /// The answer to a request.
    Response { id: RequestId, payload: Value },
    /// The error of a request, or of a message that is not one.
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

/// A value that `part` of the schema accepts, with all fields.
fn sample(schema: &Value, part: &Value) -> Value {
    if let Some(reference) = part["$ref"].as_str() {
        return sample(schema, &schema["$defs"][reference.trim_start_matches("#/$defs/")]);
    }
    if let Some(first) = part["anyOf"].get(0).or(part["oneOf"].get(0)) {
        return sample(schema, first);
    }
    if let Some(constant) = part.get("const") {
        return constant.clone();
    }
    if part["type"] == "string" {
        return "id_1".into();
    }
    if part["type"] == "boolean" {
        return true.into();
    }
    let fields = part["properties"].as_object().into_iter().flatten();
    fields
        .map(|(name, field)| (name.clone(), sample(schema, field)))
        .collect()
}

#[test]
fn requests_are_accepted_with_exactly_the_required_fields_of_the_schema() {
    let schema = schema();
    let exchanges = schema["$defs"]["Exchanges"]["properties"].as_object().unwrap();
    assert!(!exchanges.is_empty());
    for (name, exchange) in exchanges {
        let reference = &exchange["properties"]["request"];
        let payload = sample(&schema, reference);
        let read = |payload: &Value| parse(&json!({ "type": name, "id": 1, "payload": payload }).to_string());
        assert_eq!(read(&payload).unwrap().1.name(), name);
        let reference = reference["$ref"].as_str().unwrap();
        let request = &schema["$defs"][reference.trim_start_matches("#/$defs/")];
        let required: Vec<&str> = request["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for field in payload.as_object().unwrap().keys() {
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

/// Metrics and logs name the codes by strum, messages by serde.
#[test]
fn error_codes_have_one_name_each() {
    let schema = schema();
    let (worker, own) = Code::VARIANTS.split_last().unwrap();
    assert_eq!(*worker, "worker");
    assert_eq!(schema["$defs"]["ErrorCode"]["anyOf"][0]["enum"], json!(own));
    let refusals = schema["$defs"]["RefusalCode"]["oneOf"].as_array().unwrap();
    let refusals: Vec<&Value> = refusals.iter().map(|code| &code["const"]).collect();
    assert_eq!(json!(refusals), json!(RefusalCode::VARIANTS));
    let relayed = Code::Worker(RefusalCode::AtCapacity);
    assert_eq!(
        (relayed.as_str(), json!(relayed)),
        ("at_capacity", json!("at_capacity"))
    );
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
            super::message("snapshot", Snapshot { active_call: None }),
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
