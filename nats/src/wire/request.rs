//! Requests on the WebSocket: each is one variant, named by its `type` in camel case. Their schema, and from it the types of
//! the browser library, follow from here.
//!
//! [`SocketRequest`]s are answered by the socket itself, [`SignallingRequest`]s by ws-edge. [`RtcRequest`]s are relayed to the call's media-worker as they are; their
//! WebRTC parameters pass through as JSON, because only media-worker knows mediasoup.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, IntoDeserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use strum::{IntoStaticStr, VariantNames};

use crate::wire::id::{CallId, OtomoId, RequestKey};
use crate::wire::time::Timestamp;

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

/// Declares an enum of requests: variant, payload, payload of the response.
macro_rules! requests {
    ($(#[$meta:meta])* $name:ident as $schema:ident { $($(#[$doc:meta])* $variant:ident($payload:ty) -> $response:ty;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Deserialize, IntoStaticStr, VariantNames)]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant($payload),)*
        }

        impl $name {
            /// The schemas of request and response, in the order of [`VariantNames::VARIANTS`].
            fn schemas(generator: &mut SchemaGenerator) -> Vec<[Schema; 2]> {
                vec![$([generator.subschema_for::<$schema<$payload>>(), generator.subschema_for::<$response>()],)*]
            }
        }
    };
}

/// Declares RTC requests: payload, operation of the media-worker, payload of the response.
macro_rules! rtc_requests {
    ($($(#[$doc:meta])* $request:ident = $operation:literal -> $reply:ty;)*) => {
        requests! {
            /// What a party requests of the media-worker that hosts its call.
            RtcRequest as InCall { $($(#[$doc])* $request($request) -> $reply;)* }
        }

        impl RtcRequest {
            /// The names of the media-worker's operations.
            pub const OPERATIONS: &[&'static str] = &[$($operation,)*];

            /// The name of the media-worker's operation.
            pub fn operation(&self) -> &'static str {
                match self {
                    $(Self::$request(_) => $operation,)*
                }
            }
        }

        /// As the media-worker reads it: the payload alone, since the subject names the operation.
        impl Serialize for RtcRequest {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$request(request) => request.serialize(serializer),)*
                }
            }
        }

        $(impl MediaRequest for $request {
            const OPERATION: &'static str = $operation;
            type Reply = $reply;
        })*
    };
}

/// The payload has no other fields.
type Alone<P> = P;

requests! {
    /// What a party requests about its socket, in a call or not.
    SocketRequest as Alone {
        /// The socket lives until the new token expires.
        TokenRefresh(TokenRefresh) -> TokenRefreshed;
    }
}

requests! {
    /// What a party requests about a call itself.
    SignallingRequest as Alone {
        /// WS-C01: a user calls an otomo.
        CallRequest(CallRequest) -> CallRequested<'static>;
        /// WS-C02: the otomo accepts.
        CallAccept(OfCall) -> CallTaken<'static>;
        /// WS-C02: the otomo declines.
        CallReject(OfCall) -> CallOver<'static>;
        /// WS-C02: the user gives up while it rings.
        CallCancel(OfCall) -> CallOver<'static>;
        /// WS-C02: either party ends an accepted call.
        CallHangup(OfCall) -> CallOver<'static>;
        /// The heartbeat: browsers do not show WebSocket pings to scripts.
        Ping(Ping) -> Done;
    }
}

rtc_requests! {
    /// RTC-01
    RtcCapabilities = "get_capabilities" -> Capabilities;
    /// RTC-02
    RtcCreateTransport = "create_transport" -> TransportCreated;
    /// RTC-03
    RtcConnectTransport = "connect_transport" -> Done;
    /// RTC-04
    RtcProduce = "produce" -> Produced;
    /// RTC-05
    RtcConsume = "consume" -> Consumed;
    /// RTC-06
    RtcResume = "resume_consumer" -> Done;
    /// RTC-07
    RtcRestartIce = "restart_ice" -> IceRestarted;
}

impl RtcRequest {
    /// The name and value of the field with WebRTC parameters. On the WebSocket it must be an object; everything beyond that
    /// the media-worker checks.
    pub fn parameters(&self) -> Option<(&'static str, &Value)> {
        match self {
            Self::RtcConnectTransport(request) => Some(("dtlsParameters", &request.dtls_parameters)),
            Self::RtcProduce(request) => Some(("rtpParameters", &request.rtp_parameters)),
            Self::RtcConsume(request) => Some(("rtpCapabilities", &request.rtp_capabilities)),
            Self::RtcCapabilities(_) | Self::RtcCreateTransport(_) | Self::RtcResume(_) | Self::RtcRestartIce(_) => {
                None
            }
        }
    }
}

/// By the type of the request: its payload, and the payload of its response.
#[derive(Debug)]
pub struct Exchanges;

impl JsonSchema for Exchanges {
    fn schema_name() -> Cow<'static, str> {
        "Exchanges".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let names = [
            SocketRequest::VARIANTS,
            SignallingRequest::VARIANTS,
            RtcRequest::VARIANTS,
        ]
        .concat();
        let schemas = [
            SocketRequest::schemas(generator),
            SignallingRequest::schemas(generator),
            RtcRequest::schemas(generator),
        ]
        .concat();
        let exchanges = names.iter().zip(schemas).map(|(name, [request, response])| {
            let exchange = json_schema!({
                "type": "object",
                "properties": { "request": request, "response": response },
                "required": ["request", "response"],
            });
            ((*name).to_owned(), exchange.to_value())
        });
        json_schema!({
            "type": "object",
            "description": "By the type of the request: its payload, and the payload of its response.",
            "properties": exchanges.collect::<Map<_, _>>(),
            "required": names,
        })
    }
}

/// A new token of the same party.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRefresh {
    /// With the same `sub` and `role` as the socket's first one.
    pub token: String,
}

/// Without the token, which is a secret.
impl fmt::Debug for TokenRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRefresh").finish_non_exhaustive()
    }
}

/// Response to `token_refresh`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRefreshed {
    /// When the token expires. Without another one, the socket is closed then (4401).
    pub expires_at: Timestamp,
}

/// WS-C01, of a user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRequest {
    /// The otomo to call.
    pub otomo_id: OtomoId,
    /// A new one for every call. The same key again, on any socket, is answered with the same call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_key: Option<RequestKey>,
}

/// The payload of `ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Ping {}

/// Response to `call_request`: the call rings.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRequested<'a> {
    /// The call.
    pub call_id: &'a CallId,
    /// When it stops ringing.
    pub expires_at: Timestamp,
    /// With credit control: the duration that is granted so far, from `connectedAt`, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// WS-C02
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfCall {
    /// The call.
    pub call_id: CallId,
}

/// Response to `call_accept`: the call is accepted, and its media can be set up.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallTaken<'a> {
    /// The call.
    pub call_id: &'a CallId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// Response to `call_reject`, `call_cancel` and `call_hangup`: the call is over.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallOver<'a> {
    /// The call.
    pub call_id: &'a CallId,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// RTC-01
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RtcCapabilities {}

/// Response to `rtc_capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// mediasoup `RtpCapabilities` of the call's router.
    pub rtp_capabilities: Value,
}

/// RTC-02. A second transport of the same direction replaces the first, for example after a reconnect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcCreateTransport {
    /// As the client sees it.
    #[serde(deserialize_with = "from_text")]
    pub direction: Direction,
}

/// Which way media flows, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client.
    Send,
    /// To the client.
    Recv,
}

/// Response to `rtc_create_transport`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransportCreated {
    /// The transport.
    pub id: String,
    /// mediasoup `IceParameters`.
    pub ice_parameters: Value,
    /// mediasoup `IceCandidate`s; each has both `address` and `ip`, which older clients read.
    pub ice_candidates: Value,
    /// mediasoup `DtlsParameters`.
    pub dtls_parameters: Value,
    /// TURN servers, where they are configured. The edge adds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_servers: Option<Vec<IceServer>>,
}

/// An `RTCIceServer` (WebRTC 1.0, 4.2.3), with credentials of the TURN REST scheme that expire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IceServer {
    /// `turn:` and `turns:` URLs (RFC 7065).
    pub urls: Vec<String>,
    /// The time at which it expires, in seconds since 1970, and the party.
    pub username: String,
    /// HMAC-SHA1 of the username, in base64.
    pub credential: String,
}

/// RTC-03
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcConnectTransport {
    /// The transport to connect.
    pub transport_id: String,
    /// mediasoup `DtlsParameters` of the client: an object.
    pub dtls_parameters: Value,
}

/// RTC-04. A second producer of a party is refused while the first one lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcProduce {
    /// The party's send transport.
    pub transport_id: String,
    /// `audio`.
    pub kind: String,
    /// mediasoup `RtpParameters` of what the client sends: an object.
    pub rtp_parameters: Value,
}

/// Response to `rtc_produce`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Produced {
    /// The producer.
    pub producer_id: String,
}

/// RTC-05. A second consumer of a party replaces the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcConsume {
    /// The party's receive transport.
    pub transport_id: String,
    /// mediasoup `RtpCapabilities` of the client: an object.
    pub rtp_capabilities: Value,
}

/// Response to `rtc_consume`: a consumer of the peer's producer, paused until `rtc_resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumed {
    /// The consumer.
    pub consumer_id: String,
    /// The peer's producer.
    pub producer_id: String,
    /// `audio`.
    pub kind: String,
    /// mediasoup `RtpParameters` of what the client will receive.
    pub rtp_parameters: Value,
}

/// RTC-06
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcResume {
    /// The consumer to resume.
    pub consumer_id: String,
}

/// RTC-07. Producers and consumers stay, on whichever path ICE finds next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcRestartIce {
    /// The transport, in either direction.
    pub transport_id: String,
}

/// Response to `rtc_restart_ice`. The previous parameters stay valid until the client uses these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IceRestarted {
    /// mediasoup `IceParameters`.
    pub ice_parameters: Value,
}

/// An empty response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}

/// Reads an enum without fields from a string only: serde would also accept an object with the variant as its key.
fn from_text<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| D::Error::custom(error))
}
