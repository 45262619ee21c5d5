//! Commands: request/reply, to one media-worker (`media.<workerId>.<operation>`), to any ws-edge (`cmd.call.<id>.terminate`,
//! `cmd.call.<id>.grant`) or to all of them (`cmd.edges.report`).
//!
//! Operations are registered with the NATS service API (ADR-32), so `$SRV.INFO` lists the fleet. Errors have the headers
//! `Nats-Service-Error` (`<code>: <message>`) and `Nats-Service-Error-Code` (an HTTP status).

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::credit::{Authorization, Authorize, Grant};
use crate::wire::fact::EndReason;
use crate::wire::id::{CallId, GrantId, NodeId, WorkerId};
use crate::wire::party::{Parties, Role};
use crate::wire::request::{MediaRequest, RtcRequest};
use crate::wire::subject;
use crate::wire::terms::Terms;
use crate::wire::time::Timestamp;

/// The name under which media-workers register with the service API.
pub const MEDIA_SERVICE: &str = "media-worker";
/// The longest command that a worker accepts, in bytes. RTP and DTLS parameters of one audio stream are a few kilobytes.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// A command, its recipient and its reply.
pub trait Command: Serialize {
    /// The recipient, from which the subject follows.
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

        /// The names of all operations: those of ws-edge and operators, and those that ws-edge relays.
        pub fn media_operations() -> impl Iterator<Item = &'static str> {
            [$($name,)*].into_iter().chain(RtcRequest::OPERATIONS.iter().copied())
        }
    };
}

operations! {
    OpenCall = "open_call" -> CallOpened;
    GrantCredit = "grant_credit" -> CreditExtended;
    CloseCall = "close_call" -> CallClosed;
    ReportCalls = "report_calls" -> CallsReported;
    Cordon = "cordon" -> CordonState;
    Uncordon = "uncordon" -> CordonState;
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

/// Any of these requests. ws-edge forwards the reply to the client unchanged.
impl Command for Relayed<RtcRequest> {
    type Recipient = WorkerId;
    type Reply = Value;

    fn subject(&self, worker: &WorkerId) -> String {
        subject::media(worker, self.request.operation())
    }
}

impl Command for Authorize {
    type Recipient = ();
    type Reply = Authorization;

    fn subject(&self, (): &()) -> String {
        subject::AUTHORIZE.to_owned()
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

/// Reserves capacity for an accepted call. It is idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenCall {
    /// The call and its parties, the only ones that may use its media.
    #[serde(flatten)]
    pub parties: Parties,
    /// With credit control: the first grant. The worker ends the call when its time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// With credit control: the identifier of that grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<GrantId>,
    /// The terms of the call, for its facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

impl OpenCall {
    /// A call without credit control and without terms.
    pub fn new(parties: Parties) -> Self {
        Self {
            parties,
            until_ms: None,
            grant_id: None,
            terms: None,
        }
    }
}

/// Extends a call with credit control. It is idempotent, and never shortens a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantCredit {
    /// The call.
    pub call_id: CallId,
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Reply to [`GrantCredit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditExtended {
    /// The duration that is granted now, from `connectedAt`, in milliseconds.
    pub until_ms: u64,
    /// An equal or longer grant was there before: this one changed nothing.
    pub superseded: bool,
}

/// Reply to [`OpenCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallOpened {
    /// The worker ends the call at this time if no RTP has arrived (`media_timeout`).
    pub media_deadline: Timestamp,
    /// The same as a duration from now on, because the clocks of two machines differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_timeout_ms: Option<u64>,
}

/// Ends a call at its worker. The media stops first, then `ended` is stored, then the reply is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseCall {
    /// The call.
    pub call_id: CallId,
    /// Reason and originator. If absent, the capacity is released and nothing is published (the call was never accepted).
    pub end: Option<End>,
}

/// The reason and the originator of a call's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The reason.
    pub reason: EndReason,
    /// The originator.
    pub by: String,
}

/// Reply to [`CloseCall`], from the stored `ended` (which may be that of another publisher).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallClosed {
    /// End of the call; null if nothing was published.
    pub ended_at: Option<Timestamp>,
    /// Connection of the call; null if it was never connected.
    pub connected_at: Option<Timestamp>,
}

/// The most calls of one [`CallsReported`].
pub const MAX_CALLS_REPORTED: usize = 500;

/// Requests the packet counters of a worker's calls, for observers. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportCalls {
    /// Maximum number of calls, at most [`MAX_CALLS_REPORTED`].
    pub limit: usize,
    /// Only calls with a greater ID: the last one of the previous page.
    pub after: Option<CallId>,
}

/// Reply to [`ReportCalls`], sorted by call ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallsReported {
    /// The calls.
    pub calls: Vec<CallMedia>,
    /// More calls follow: request those after the last one.
    pub more: bool,
}

/// The last sample of a call's media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallMedia {
    /// The call.
    pub call_id: CallId,
    /// The user's RTP; null if none was ever received.
    pub user: Option<PartyMedia>,
    /// The otomo's RTP; null if none was ever received.
    pub otomo: Option<PartyMedia>,
}

/// The RTP of one party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartyMedia {
    /// Time of its last packet, within the worker's sample interval.
    pub last_rtp_at: Timestamp,
    /// Whether the party is lost.
    pub lost: bool,
    /// Packets of the party's current producer.
    pub packets: u64,
}

/// Keeps new calls from a worker; its calls continue. It is idempotent, and a restart of the worker lifts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {}

/// Lets the worker accept calls again. It is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncordon {}

/// Reply to [`Cordon`] and [`Uncordon`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordonState {
    /// Whether the worker is cordoned now.
    pub cordoned: bool,
    /// Calls that it still hosts.
    pub calls: u32,
}

/// `cmd.edges.report`: every ws-edge replies, so that observers see the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportEdge {}

/// Reply to [`ReportEdge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReported {
    /// The edge.
    pub node_id: NodeId,
    /// Open sockets of parties.
    pub sockets: u32,
    /// Open sockets of operators.
    pub operators: u32,
    /// Time of the reply, by the edge's clock.
    pub at: Timestamp,
    /// Start of the process.
    pub started_at: Timestamp,
}

/// `cmd.call.<id>.terminate`: another team ends a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminate {
    /// Default: `terminated`.
    #[serde(default = "terminated")]
    pub reason: EndReason,
    /// The originator, for the record: letters, digits and `_-:.@`, at most 128.
    pub by: String,
}

/// `cmd.call.<id>.grant`: the wallet extends a call. The reply is that of [`GrantCredit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendCall {
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
}

impl Command for ExtendCall {
    type Recipient = CallId;
    type Reply = CreditExtended;

    fn subject(&self, call: &CallId) -> String {
        subject::grant(call)
    }
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
