//! Commands: request/reply, to one media-worker (`media.<workerId>.<operation>`), to any ws-edge (`cmd.call.<id>.terminate`) or
//! to all of them (`cmd.edges.report`).
//!
//! Operations are registered with the NATS service API (ADR-32), so `$SRV.INFO` lists the fleet. An error comes back in its
//! headers `Nats-Service-Error` (`<code>: <message>`) and `Nats-Service-Error-Code` (as HTTP: 4xx the sender's, 5xx ours).

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::fact::EndReason;
use crate::wire::id::{CallId, NodeId, WorkerId};
use crate::wire::party::{Parties, Role};
use crate::wire::request::{MediaRequest, RtcRequest};
use crate::wire::subject;
use crate::wire::time::Timestamp;

/// The name under which media-workers register with the service API.
pub const MEDIA_SERVICE: &str = "media-worker";
/// The longest command a worker reads, in bytes: RTP and DTLS parameters of one audio stream are a few kilobytes.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// A command: where it is sent, and what comes back.
pub trait Command: Serialize {
    /// What the subject is made from.
    type Recipient;
    /// The payload of the reply.
    type Reply: DeserializeOwned;

    /// The subject on which `recipient` receives it.
    fn subject(&self, recipient: &Self::Recipient) -> String;
}

/// A command to one media-worker.
pub trait MediaOperation: Serialize + DeserializeOwned {
    /// The last token of the subject.
    const NAME: &'static str;
    /// The payload of the reply.
    type Reply: Serialize + DeserializeOwned;
}

impl<O: MediaOperation> Command for O {
    type Recipient = WorkerId;
    type Reply = O::Reply;

    fn subject(&self, worker: &WorkerId) -> String {
        subject::media(worker, O::NAME)
    }
}

macro_rules! operations {
    ($($command:ident = $name:literal -> $reply:ident;)*) => {
        $(impl MediaOperation for $command {
            const NAME: &'static str = $name;
            type Reply = $reply;
        })*

        /// The names of all operations: those of ws-edge itself, and those that it relays.
        pub fn media_operations() -> impl Iterator<Item = &'static str> {
            [$($name,)*].into_iter().chain(RtcRequest::OPERATIONS.iter().copied())
        }
    };
}

operations! {
    OpenCall = "open_call" -> CallOpened;
    CloseCall = "close_call" -> CallClosed;
    ReportCalls = "report_calls" -> CallsReported;
}

/// A party's request, with the requester added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed<R> {
    /// The party, and its call.
    #[serde(flatten)]
    pub requester: Requester,
    /// The request.
    #[serde(flatten)]
    pub request: R,
}

impl<R> MediaOperation for Relayed<R>
where
    R: MediaRequest<Reply: Serialize + DeserializeOwned> + Serialize + DeserializeOwned,
{
    const NAME: &'static str = R::OPERATION;
    type Reply = R::Reply;
}

/// Any of them, for ws-edge: its reply goes to the client as it is.
impl Command for Relayed<RtcRequest> {
    type Recipient = WorkerId;
    type Reply = Value;

    fn subject(&self, worker: &WorkerId) -> String {
        subject::media(worker, self.request.operation())
    }
}

/// The party that requests something, and its call. The edge knows the role from the token; the worker checks it against the
/// call's parties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// The call.
    pub call_id: CallId,
    /// The party's side.
    pub role: Role,
    /// The party's identifier.
    pub party_id: String,
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

impl Command for Terminate {
    type Recipient = CallId;
    type Reply = CallClosed;

    fn subject(&self, call: &CallId) -> String {
        subject::terminate(call)
    }
}

fn terminated() -> EndReason {
    EndReason::Terminated
}
