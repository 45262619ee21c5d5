//! Commands: request/reply, to one media-worker (`media.<workerId>.<operation>`), to any ws-edge (`cmd.call.<id>.terminate`) or
//! to all of them (`cmd.edges.report`).
//!
//! Operations are registered with the NATS service API (ADR-32), so `$SRV.INFO` lists the fleet. An error comes back in its
//! headers `Nats-Service-Error` (`<code>: <message>`) and `Nats-Service-Error-Code` (as HTTP: 4xx the sender's, 5xx ours).
//!
//! WebRTC parameters pass through as JSON: only media-worker knows mediasoup, and it checks them.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::fact::EndReason;
use crate::wire::id::{CallId, NodeId};
use crate::wire::party::{Parties, Role};
use crate::wire::time::Timestamp;

/// The name under which media-workers register with the service API.
pub const MEDIA_SERVICE: &str = "media-worker";
/// The longest command a worker reads, in bytes: RTP and DTLS parameters of one audio stream are a few kilobytes.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// What can be asked of a media-worker: the request's type is the operation.
pub trait MediaOperation: Serialize + DeserializeOwned {
    /// The last token of the subject.
    const NAME: &'static str;
    /// What comes back.
    type Reply: Serialize + DeserializeOwned;
}

macro_rules! operations {
    ($($(#[$doc:meta])* $request:ident = $name:literal -> $reply:ident;)*) => {
        $(impl MediaOperation for $request {
            const NAME: &'static str = $name;
            type Reply = $reply;
        })*

        /// The names of all operations.
        pub const MEDIA_OPERATIONS: &[&str] = &[$($name,)*];
    };
}

operations! {
    OpenCall = "open_call" -> CallOpened;
    GetCapabilities = "get_capabilities" -> Capabilities;
    CreateTransport = "create_transport" -> TransportCreated;
    ConnectTransport = "connect_transport" -> Done;
    Produce = "produce" -> Produced;
    Consume = "consume" -> Consumed;
    ResumeConsumer = "resume_consumer" -> Done;
    CloseCall = "close_call" -> CallClosed;
    ReportCalls = "report_calls" -> CallsReported;
}

/// Reserves room for an accepted call. Asking twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenCall {
    /// The call and who is in it: nobody else may touch its media.
    #[serde(flatten)]
    pub parties: Parties,
}

/// Answer to [`OpenCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallOpened {
    /// When the worker gives up if no RTP has come (`media_timeout`).
    pub media_deadline: Timestamp,
}

/// Who asks, in which call. The edge knows the role from the token; the worker checks it against the call's parties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// The call.
    pub call_id: CallId,
    /// The asker's side.
    pub role: Role,
    /// The asker's identifier.
    pub party_id: String,
}

/// RTC-01.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetCapabilities {
    /// Who asks.
    #[serde(flatten)]
    pub asker: Requester,
}

/// Answer to [`GetCapabilities`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// mediasoup `RtpCapabilities` of the call's router.
    pub rtp_capabilities: Value,
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

/// RTC-02. A second transport of the same direction replaces the first: that is how a client comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTransport {
    /// Who asks.
    #[serde(flatten)]
    pub asker: Requester,
    /// Which way.
    pub direction: Direction,
}

/// Answer to [`CreateTransport`].
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
}

/// RTC-03.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectTransport {
    /// Who asks.
    #[serde(flatten)]
    pub asker: Requester,
    /// Which transport.
    pub transport_id: String,
    /// mediasoup `DtlsParameters` of the client.
    pub dtls_parameters: Value,
}

/// RTC-04. A second producer of a party is refused while the first one lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Produce {
    /// Who asks.
    #[serde(flatten)]
    pub asker: Requester,
    /// Which transport.
    pub transport_id: String,
    /// Must be `audio`.
    pub kind: String,
    /// mediasoup `RtpParameters` of what the client sends.
    pub rtp_parameters: Value,
}

/// Answer to [`Produce`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Produced {
    /// The producer.
    pub producer_id: String,
}

/// RTC-05.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consume {
    /// Who asks.
    #[serde(flatten)]
    pub asker: Requester,
    /// Which transport.
    pub transport_id: String,
    /// mediasoup `RtpCapabilities` of the client.
    pub rtp_capabilities: Value,
}

/// Answer to [`Consume`]: a consumer of the peer's producer, paused until [`ResumeConsumer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumed {
    /// The consumer.
    pub consumer_id: String,
    /// What it consumes.
    pub producer_id: String,
    /// `audio`.
    pub kind: String,
    /// mediasoup `RtpParameters` of what the client will receive.
    pub rtp_parameters: Value,
}

/// RTC-06.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeConsumer {
    /// Who asks.
    #[serde(flatten)]
    pub asker: Requester,
    /// Which consumer.
    pub consumer_id: String,
}

/// Ends a call at its worker. Media stops first, then `ended` is stored, then the answer goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseCall {
    /// The call.
    pub call_id: CallId,
    /// Why and by whom; without it the room is given back and nothing is published (the call was never accepted).
    pub end: Option<End>,
}

/// Why a call is ended and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// By whom.
    pub by: String,
}

/// Answer to [`CloseCall`]; what the stored `ended` says (somebody else's, if that was first).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallClosed {
    /// When it was over; null if nothing was published.
    pub ended_at: Option<Timestamp>,
    /// When it had begun; null if it never did.
    pub connected_at: Option<Timestamp>,
}

/// The most calls of one [`CallsReported`].
pub const MAX_CALLS_REPORTED: usize = 500;

/// What a worker knows of its calls' media beyond the facts: for those who watch. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportCalls {
    /// At most so many calls; never more than [`MAX_CALLS_REPORTED`].
    pub limit: usize,
    /// Only calls whose ID comes after this one: the last of the page before.
    pub after: Option<CallId>,
}

/// Answer to [`ReportCalls`], in the order of the calls' IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallsReported {
    /// The calls.
    pub calls: Vec<CallMedia>,
    /// There are more: ask for those after the last one.
    pub more: bool,
}

/// A call's media, as it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallMedia {
    /// The call.
    pub call_id: CallId,
    /// What the user sends; null if no RTP of theirs was ever seen.
    pub user: Option<PartyMedia>,
    /// What the otomo sends.
    pub otomo: Option<PartyMedia>,
}

/// What one party sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartyMedia {
    /// When its last packet was counted, to the worker's sample interval.
    pub last_rtp_at: Timestamp,
    /// It counts as lost.
    pub lost: bool,
    /// Packets of the party's present producer, in all.
    pub packets: u64,
}

/// `cmd.edges.report`: every ws-edge answers for itself, that whoever watches sees which there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportEdge {}

/// Answer to [`ReportEdge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReported {
    /// Which edge.
    pub node_id: NodeId,
    /// Sockets of parties that are open there.
    pub sockets: u32,
    /// Sockets of operators that are open there.
    pub operators: u32,
    /// When it said so, by its own clock.
    pub at: Timestamp,
    /// Since when it runs.
    pub started_at: Timestamp,
}

/// An answer with nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}

/// `cmd.call.<id>.terminate`: another team ends a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminate {
    /// `terminated` if left out.
    #[serde(default = "terminated")]
    pub reason: EndReason,
    /// Who asks, for the record: letters, digits and `_-:.@`, at most 128.
    pub by: String,
}

fn terminated() -> EndReason {
    EndReason::Terminated
}
