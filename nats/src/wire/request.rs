//! Requests on the WebSocket: each is one variant, named by its `type` in camel case. Their schema, and from it the types of
//! the browser library, follow from here.
//!
//! [`SocketRequest`]s are answered by the socket itself, [`SignallingRequest`]s by ws-edge. [`RtcRequest`]s are relayed to the
//! call's media-worker as they are; their WebRTC parameters pass through as JSON, because only media-worker knows mediasoup.

mod requests_macro;
mod rtc;
mod signalling;

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use strum::Display;

use crate::wire::id::CallId;

pub use rtc::*;
pub use signalling::*;

/// What a client may request.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Answered by the socket on which it arrives.
    Socket(SocketRequest),
    /// Answered by ws-edge.
    Signalling(SignallingRequest),
    /// Relayed to the media-worker.
    Rtc(InCall<RtcRequest>),
}

impl Request {
    /// Its `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Socket(request) => request.into(),
            Self::Signalling(request) => request.into(),
            Self::Rtc(request) => (&request.request).into(),
        }
    }
}

// The payload of an RTC request on the WebSocket.
#[expect(missing_docs, reason = "its description in the schema is that of the request")]
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(rename = "{R}", rename_all = "camelCase")]
pub struct InCall<R> {
    /// The call. A party that leaves it out means the only call it is in.
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The rest of the payload, which the media-worker receives as it is.
    #[schemars(flatten)]
    pub request: R,
}

/// A request about the media of the requester's call.
pub trait MediaRequest {
    /// The name of the media-worker's operation.
    const OPERATION: &'static str;
    /// The payload of the response.
    type Reply;
}

/// A request as documents describe it.
#[derive(Debug, Clone, Copy)]
pub struct RequestDeclaration {
    /// Its `type`.
    pub name: &'static str,
    /// In a sentence.
    pub meaning: &'static str,
    /// The parties that may send it.
    pub by: RequestedBy,
    /// Whether a client may repeat it when it has received no response.
    pub repeat: &'static str,
    /// The schema of its payload.
    pub request: SchemaFn,
    /// The schema of the payload of its response.
    pub response: SchemaFn,
}

/// The schema of a type.
pub type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

struct SchemaOf<T>(PhantomData<T>);

impl<T: JsonSchema> SchemaOf<T> {
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// The parties that may send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[strum(serialize_all = "snake_case")]
pub enum RequestedBy {
    /// The user.
    User,
    /// The otomo.
    Otomo,
    /// Either party.
    Both,
}

/// All requests.
pub fn declarations() -> impl Iterator<Item = RequestDeclaration> {
    let own = SocketRequest::declarations().chain(SignallingRequest::declarations());
    own.chain(RtcRequest::declarations())
}

/// By the type of the request: its payload, and the payload of its response.
#[derive(Debug)]
pub struct Exchanges;

impl JsonSchema for Exchanges {
    fn schema_name() -> Cow<'static, str> {
        "Exchanges".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let exchanges = declarations().map(|declaration| {
            let exchange = json_schema!({
                "type": "object",
                "properties": {
                    "request": (declaration.request)(generator),
                    "response": (declaration.response)(generator),
                },
                "required": ["request", "response"],
            });
            (declaration.name.to_owned(), exchange.to_value())
        });
        let exchanges: Map<_, _> = exchanges.collect();
        let names: Vec<_> = declarations().map(|declaration| declaration.name).collect();
        json_schema!({
            "type": "object",
            "description": "By the type of the request: its payload, and the payload of its response.",
            "properties": exchanges,
            "required": names,
        })
    }
}

/// An empty response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}
