//! The contract as documents: JSON schemas, and an AsyncAPI 3 document of NATS and the WebSocket.

use contract::FactKind;
use contract::wire::fact::Occurrence;
use contract::wire::notice::{Notice, NoticeKind};
use contract::wire::party::Role;
use contract::wire::{command, rights, subject};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::golden::generator;

/// The documents by the names of their files. `protocol` is the schema of the WebSocket's messages.
pub(crate) fn documents(protocol: &Value) -> [(&'static str, Value); 5] {
    [
        ("facts.json", schemas("Facts of a call, by kind", facts)),
        ("notices.json", schemas("Notices to a party, by kind", notices)),
        (
            "commands.json",
            schemas("Commands, by name: payload and reply", commands),
        ),
        ("websocket.json", protocol.clone()),
        ("asyncapi.json", asyncapi(protocol)),
    ]
}

fn schemas(title: &str, properties: impl Fn(&mut SchemaGenerator) -> Map<String, Value>) -> Value {
    let mut generator = generator();
    let properties = properties(&mut generator);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "properties": properties,
        "$defs": generator.take_definitions(true),
    })
}

fn facts(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let facts = FactKind::ALL.iter().map(|kind| {
        let declaration = kind.declaration();
        let mut schema = kind.payload().schema(generator).to_value();
        schema["x-subject"] = json!(subject::facts_of_kind(*kind));
        schema["x-publishers"] = declaration.publishers.iter().map(|service| service.as_str()).collect();
        schema["x-occurrence"] = json!(match declaration.occurrence {
            Occurrence::Once => "once".to_owned(),
            Occurrence::OncePer(field) => format!("once per {field}"),
            Occurrence::ManyPer(field) => format!("many per {field}"),
        });
        schema["x-notices"] = declaration.notices.iter().map(ToString::to_string).collect();
        (kind.to_string(), schema)
    });
    facts.collect()
}

/// The schemas of the notices, by kind.
fn notices(generator: &mut SchemaGenerator) -> Map<String, Value> {
    generator.subschema_for::<Notice>();
    let schema = generator.definitions_mut().remove("Notice").unwrap();
    let variants = schema["oneOf"].as_array().unwrap().iter();
    let kinds = NoticeKind::ALL.iter().zip(variants).map(|(kind, variant)| {
        let mut schema = variant.clone();
        assert_eq!(schema["properties"]["type"]["const"], kind.to_string());
        let subjects = Role::BOTH.map(|role| subject::notices_of_kind(role, *kind));
        schema["x-subjects"] = json!(subjects);
        let publishers = rights::publishers_of(*kind);
        schema["x-publishers"] = publishers.iter().map(|service| service.as_str()).collect();
        (kind.to_string(), schema)
    });
    kinds.collect()
}

fn commands(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let commands = command::declarations().map(|command| {
        let schema = json!({
            "properties": {
                "request": command.request.schema(generator),
                "reply": command.reply.schema(generator),
            },
            "x-subject": command.subject,
            "x-answered-by": command.answered_by,
        });
        (command.name.to_owned(), schema)
    });
    commands.collect()
}

/// A subject with a name for each wildcard, and the parameters of these names.
fn address(subject: &str) -> (String, Value) {
    let names: &[&str] = match subject.split('.').next() {
        Some("call" | "cmd") => &["callId"],
        Some("media") => &["workerId"],
        Some("user") => &["userId"],
        Some("otomo") => &["otomoId"],
        _ => &[],
    };
    let mut address = subject.to_owned();
    let mut parameters = Map::new();
    for name in names.iter().filter(|_| subject.contains('*')) {
        address = address.replacen('*', &format!("{{{name}}}"), 1);
        parameters.insert(
            (*name).to_owned(),
            json!({ "description": "An identifier: [A-Za-z0-9_-]{1,64}" }),
        );
    }
    (address, Value::Object(parameters))
}

/// The parts of the AsyncAPI document that is being built.
#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

impl Parts {
    fn message(&mut self, name: &str, payload: &Value, headers: Option<Value>) {
        let mut message = json!({ "name": name, "payload": payload });
        if let Some(headers) = headers {
            message["headers"] = headers;
        }
        self.messages.insert(name.to_owned(), message);
    }

    /// A channel of NATS with one message of the same name.
    fn channel(&mut self, name: &str, address: Option<&str>) {
        let (address, parameters) = match address.map(self::address) {
            Some((address, parameters)) => (json!(address), parameters),
            // A reply subject.
            None => (Value::Null, json!({})),
        };
        let channel = json!({
            "address": address,
            "parameters": parameters,
            "servers": [reference("servers", "nats")],
            "messages": { name: reference("components/messages", name) },
        });
        self.channels.insert(name.to_owned(), channel);
    }

    fn operation(&mut self, name: &str, action: &str, summary: &str) {
        let operation = json!({
            "action": action,
            "summary": summary,
            "channel": reference("channels", name),
            "messages": [reference(&format!("channels/{name}/messages"), name)],
        });
        self.operations.insert(name.to_owned(), operation);
    }
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

/// The attributes of CloudEvents in binary mode, and the trace.
fn headers() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "properties": {
            "ce-id": text("The same for each delivery of a fact: deduplicate by it"),
            "ce-type": text("The kind of the fact"),
            "ce-source": text("The process that published it"),
            "ce-time": text("When it happened"),
            "ce-specversion": { "type": "string", "const": "1.0" },
            "traceparent": text("W3C Trace Context: one trace for each call"),
            "callpulse-age-ms": text("Milliseconds from the event to its publication, by the publisher's clocks alone"),
        },
        "required": ["ce-id", "ce-type", "ce-source", "ce-time", "ce-specversion", "traceparent"],
    })
}

fn asyncapi(protocol: &Value) -> Value {
    let mut generator = generator();
    let mut parts = Parts::default();
    for (kind, schema) in facts(&mut generator) {
        let name = format!("fact_{kind}");
        parts.message(&name, &json!({ "$ref": schema["$ref"] }), Some(headers()));
        parts.channel(&name, schema["x-subject"].as_str());
        parts.operation(
            &name,
            "send",
            "Published once it is certain, and stored in the stream CALLS",
        );
    }
    let notices = notices(&mut generator);
    for (kind, mut schema) in notices.clone() {
        let fields = schema.as_object_mut().unwrap();
        let subjects = fields.remove("x-subjects").unwrap();
        fields.remove("x-publishers");
        let message = format!("notice_{kind}");
        parts.message(&message, &schema, None);
        for subject in subjects.as_array().unwrap() {
            let subject = subject.as_str().unwrap();
            let name = format!("notice_{kind}_to_{}", subject.split('.').next().unwrap());
            parts.channel(&name, Some(subject));
            parts.channels[&name]["messages"] = json!({ &message: reference("components/messages", &message) });
            parts.operation(&name, "send", "Sent after the fact behind it is stored");
            parts.operations[&name]["messages"] = json!([reference(&format!("channels/{name}/messages"), &message)]);
        }
    }
    for (command, schema) in commands(&mut generator) {
        let [name, reply] = [format!("command_{command}"), format!("reply_{command}")];
        parts.message(&name, &schema["properties"]["request"], None);
        parts.message(&reply, &schema["properties"]["reply"], None);
        parts.channel(&name, schema["x-subject"].as_str());
        parts.channel(&reply, None);
        let answered_by = schema["x-answered-by"].as_str().unwrap();
        let action = if answered_by == "the wallet" { "send" } else { "receive" };
        parts.operation(&name, action, &format!("Answered by {answered_by}"));
        parts.operations[&name]["reply"] = json!({
            "address": { "location": "$message.header#/reply" },
            "channel": reference("channels", &reply),
        });
    }
    websocket(&mut parts, protocol, &notices);
    let mut definitions = generator.take_definitions(true);
    for (name, schema) in protocol["$defs"].as_object().unwrap() {
        if let Some(same) = definitions.insert(name.clone(), schema.clone()) {
            assert_eq!(same, *schema, "two schemas of the name {name}");
        }
    }
    for whole in ["Exchanges", "OwnMessage", "ServerMessage"] {
        definitions.remove(whole);
    }
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "callpulse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Facts, notices and commands on NATS, and the WebSocket protocol of clients. `send` is what callpulse sends.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": { "host": "nats.example:4222", "protocol": "nats" },
            "edge": { "host": "calls.example", "protocol": "wss" },
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": { "messages": parts.messages, "schemas": definitions },
    });
    let text = document.to_string().replace("#/$defs/", "#/components/schemas/");
    let document = serde_json::from_str(&text).unwrap();
    for reference in text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(Value::pointer(&document, pointer).is_some(), "{pointer} does not exist");
    }
    document
}

/// The channel `/ws`: requests with their responses, the notices, and the messages of the node itself.
fn websocket(parts: &mut Parts, protocol: &Value, notices: &Map<String, Value>) {
    let mut messages: Vec<String> = notices.keys().map(|kind| format!("notice_{kind}")).collect();
    for own in protocol["$defs"]["OwnMessage"]["oneOf"].as_array().unwrap() {
        let name = format!("message_{}", own["properties"]["type"]["const"].as_str().unwrap());
        parts.message(&name, own, None);
        messages.push(name);
    }
    let sent = messages.clone();
    let exchanges = protocol["$defs"]["Exchanges"]["properties"].as_object().unwrap();
    let mut operations = Vec::new();
    for (kind, exchange) in exchanges {
        let [request, response] = [format!("request_{kind}"), format!("response_{kind}")];
        let id = json!({ "$ref": "#/$defs/RequestId" });
        let envelope = |kind: &str, payload: &Value| {
            json!({
                "type": "object",
                "properties": { "type": { "const": kind }, "id": id, "payload": payload },
                "required": ["type", "id"],
            })
        };
        parts.message(&request, &envelope(kind, &exchange["properties"]["request"]), None);
        parts.message(
            &response,
            &envelope("response", &exchange["properties"]["response"]),
            None,
        );
        let in_channel = |name: &str| json!([reference("channels/websocket/messages", name)]);
        operations.push((
            request.clone(),
            json!({
                "action": "receive",
                "channel": reference("channels", "websocket"),
                "messages": in_channel(&request),
                "reply": { "channel": reference("channels", "websocket"), "messages": in_channel(&response) },
            }),
        ));
        messages.extend([request, response]);
    }
    let listed =
        |names: &[String], place: &str| -> Vec<Value> { names.iter().map(|name| reference(place, name)).collect() };
    operations.push((
        "websocket".to_owned(),
        json!({
            "action": "send",
            "channel": reference("channels", "websocket"),
            "messages": listed(&sent, "channels/websocket/messages"),
        }),
    ));
    parts.operations.extend(operations);
    let messages: Map<_, _> = messages
        .iter()
        .map(|name| (name.clone(), reference("components/messages", name)))
        .collect();
    let channel = json!({
        "address": "/ws",
        "servers": [reference("servers", "edge")],
        "bindings": { "ws": { "method": "GET" } },
        "messages": messages,
    });
    parts.channels.insert("websocket".to_owned(), channel);
}
