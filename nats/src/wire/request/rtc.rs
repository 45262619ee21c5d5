//! Requests that the media-worker answers.

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, IntoDeserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use strum::{IntoStaticStr, VariantNames};

use super::requests_macro::{requests, rtc_requests};
use super::{Done, InCall, MediaRequest, RequestDeclaration, RequestedBy, SchemaFn, SchemaOf};
use crate::wire::id::CallId;
use crate::wire::party::Role;
use crate::wire::payload::PayloadType;

rtc_requests! {
    /// RTC-01: the RTP capabilities of the call's router.
    RtcCapabilities = "get_capabilities" -> Capabilities, repeat "yes";
    /// RTC-02: a transport, for media in one direction.
    RtcCreateTransport = "create_transport" -> TransportCreated,
        repeat "yes: it replaces the earlier transport of that direction";
    /// RTC-03: connects a transport.
    RtcConnectTransport = "connect_transport" -> Done, repeat "no: create a new transport";
    /// RTC-04: sends audio, and announces it to the peer.
    RtcProduce = "produce" -> Produced, repeat "no: `already_producing`. Create a new transport";
    /// RTC-05: receives the peer's audio, paused.
    RtcConsume = "consume" -> Consumed, repeat "yes: it replaces the earlier consumer";
    /// RTC-06: the consumer's audio flows.
    RtcResume = "resume_consumer" -> Done, repeat "yes";
    /// RTC-07: new ICE parameters for a transport, after a change of network.
    RtcRestartIce = "restart_ice" -> IceRestarted, repeat "yes: use the parameters of the last response";
}

/// A party's request, with the requester added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Relayed{R}")]
pub struct Relayed<R> {
    /// The party, and its call.
    #[serde(flatten)]
    pub requester: Requester,
    /// The payload of the party's request.
    #[serde(flatten)]
    pub request: R,
}

/// The party that requests something, and its call. The edge knows the role from the token; the worker checks it against the
/// call's parties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// The call that the party is in.
    pub call_id: CallId,
    /// Whether the party is the user or the otomo.
    pub role: Role,
    /// The identifier of that user or otomo.
    pub party_id: String,
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
    /// From the client to the SFU.
    Send,
    /// From the SFU to the client.
    Recv,
}

/// Response to `rtc_create_transport`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransportCreated {
    /// Identifier of the new transport.
    pub id: String,
    /// mediasoup `IceParameters` of the SFU.
    pub ice_parameters: Value,
    /// mediasoup `IceCandidate`s; each has both `address` and `ip`, which older clients read.
    pub ice_candidates: Value,
    /// mediasoup `DtlsParameters` of the SFU.
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
    #[serde(deserialize_with = "object")]
    pub dtls_parameters: Value,
}

/// RTC-04. A second producer of a party is refused while the first one lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcProduce {
    /// The party's send transport.
    pub transport_id: String,
    /// Kind of the media: always `audio`.
    pub kind: String,
    /// mediasoup `RtpParameters` of what the client sends: an object.
    #[serde(deserialize_with = "object")]
    pub rtp_parameters: Value,
}

/// Response to `rtc_produce`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Produced {
    /// Identifier of the new producer.
    pub producer_id: String,
}

/// RTC-05. A second consumer of a party replaces the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtcConsume {
    /// The party's receive transport.
    pub transport_id: String,
    /// mediasoup `RtpCapabilities` of the client: an object.
    #[serde(deserialize_with = "object")]
    pub rtp_capabilities: Value,
}

/// Response to `rtc_consume`: a consumer of the peer's producer, paused until `rtc_resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumed {
    /// Identifier of the new consumer.
    pub consumer_id: String,
    /// The peer's producer.
    pub producer_id: String,
    /// Kind of the media: always `audio`.
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
    /// New mediasoup `IceParameters` of the SFU.
    pub ice_parameters: Value,
}

/// Reads an enum without fields from a string only: serde would also accept an object with the variant as its key.
fn from_text<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| D::Error::custom(error))
}

/// WebRTC parameters are an object; everything beyond that the media-worker checks.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let parameters = Value::deserialize(deserializer)?;
    if parameters.is_object() {
        Ok(parameters)
    } else {
        Err(D::Error::custom("expected an object"))
    }
}
