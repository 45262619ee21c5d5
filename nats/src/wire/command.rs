//! Commands: request/reply, to one media-worker (`media.<workerId>.<operation>`), to any ws-edge (`cmd.call.<id>.terminate`,
//! `cmd.call.<id>.grant`), to all of them (`cmd.edges.report`), to those of an otomo (`otomo.<id>.presence`), or to the wallet.
//!
//! Operations are registered with the NATS service API (ADR-32), so `$SRV.INFO` lists the fleet. Errors have the headers
//! `Nats-Service-Error` (`<code>: <message>`) and `Nats-Service-Error-Code` (an HTTP status).

use std::fmt::Debug;

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::VariantNames;

use crate::wire::credit::{Authorization, Authorize, Grant, optional_grant};
use crate::wire::fact::EndReason;
use crate::wire::id::{CallId, NodeId, OtomoId, WorkerId};
use crate::wire::party::Parties;
use crate::wire::payload::PayloadType;
use crate::wire::request::{MediaRequest, RtcRequest};
pub use crate::wire::request::{Relayed, Requester};
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

/// A command as documents describe it.
#[derive(Debug, Clone)]
pub struct CommandDeclaration {
    /// Its name.
    pub name: &'static str,
    /// Its subject, with wildcards.
    pub subject: String,
    /// The services that reply.
    pub answered_by: &'static str,
    /// The WebSocket request that is relayed so, if it is one.
    pub relays: Option<&'static str>,
    /// The payload.
    pub request: PayloadType,
    /// The payload of the reply.
    pub reply: PayloadType,
}

/// All commands.
pub fn declarations() -> impl Iterator<Item = CommandDeclaration> {
    let relayed = RtcRequest::VARIANTS.iter().zip(RtcRequest::RELAYED);
    let relayed = relayed.map(|(request, relayed)| (Some(*request), *relayed));
    let media = OPERATIONS.iter().map(|operation| (None, *operation)).chain(relayed);
    let media = media.map(|(relays, (name, request, reply))| CommandDeclaration {
        name,
        subject: subject::media_operation(name),
        answered_by: "that media-worker",
        relays,
        request,
        reply,
    });
    media.chain([
        declared::<Terminate>("terminate", subject::ALL_TERMINATE, "any ws-edge"),
        declared::<ExtendCall>("grant", subject::ALL_GRANT, "any ws-edge"),
        declared::<Authorize>("authorize", subject::AUTHORIZE, "the wallet"),
        declared::<QueryPresence>(
            "presence",
            subject::ALL_PRESENCE,
            "every ws-edge with a socket of this otomo",
        ),
        declared::<ReportEdge>("report_edge", subject::REPORT_EDGES, "every ws-edge"),
    ])
}

/// What the document of a payload is made from.
trait Described: JsonSchema + Serialize + DeserializeOwned + Debug {}

impl<T: JsonSchema + Serialize + DeserializeOwned + Debug> Described for T {}

fn declared<C>(name: &'static str, subject: &str, answered_by: &'static str) -> CommandDeclaration
where
    C: Command<Reply: Described> + Described,
{
    CommandDeclaration {
        name,
        subject: subject.to_owned(),
        answered_by,
        relays: None,
        request: PayloadType::of::<C>(),
        reply: PayloadType::of::<C::Reply>(),
    }
}

/// The names of a media-worker's operations.
pub fn media_operations() -> impl Iterator<Item = &'static str> {
    let own = OPERATIONS.iter().map(|(name, ..)| *name);
    own.chain(RtcRequest::RELAYED.iter().map(|(name, ..)| *name))
}

macro_rules! operations {
    ($($command:ident = $name:literal -> $reply:ident;)*) => {
        $(impl MediaOperation for $command {
            const NAME: &'static str = $name;
            type Reply = $reply;
        })*

        /// The operations that ws-edge and operators request.
        const OPERATIONS: &[(&str, PayloadType, PayloadType)] =
            &[$(($name, PayloadType::of::<$command>(), PayloadType::of::<$reply>()),)*];
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

/// Reserves capacity for an accepted call. It is idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenCall {
    /// The call and its parties, the only ones that may use its media.
    #[serde(flatten)]
    pub parties: Parties,
    /// With credit control: the first grant. The worker ends the call when its time is over.
    #[serde(flatten, with = "optional_grant")]
    #[schemars(with = "Option<Grant>")]
    pub grant: Option<Grant>,
    /// The terms of the call, for its facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

impl OpenCall {
    /// A call without credit control and without terms.
    pub fn new(parties: Parties) -> Self {
        Self {
            parties,
            grant: None,
            terms: None,
        }
    }
}

/// Extends a call with credit control. It is idempotent, and never shortens a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantCredit {
    /// The call to extend.
    pub call_id: CallId,
    /// The new grant.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Reply to [`GrantCredit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditExtended {
    /// The duration that is granted now, from `connectedAt`, in milliseconds.
    pub until_ms: u64,
    /// An equal or longer grant was there before: this one changed nothing.
    pub superseded: bool,
}

/// Reply to [`OpenCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallOpened {
    /// The worker ends the call at this time if no RTP has arrived (`media_timeout`).
    pub media_deadline: Timestamp,
    /// The same as a duration from now on, because the clocks of two machines differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_timeout_ms: Option<u64>,
    /// Start of the worker's process: another process may have the worker's name later, without its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_started_at: Option<Timestamp>,
}

/// Ends a call at its worker. The media stops first, then `ended` is stored, then the reply is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloseCall {
    /// The call to end.
    pub call_id: CallId,
    /// Reason and originator. If absent, the capacity is released and nothing is published (the call was never accepted).
    pub end: Option<End>,
}

/// The reason and the originator of a call's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Why the call ends.
    pub reason: EndReason,
    /// The party, process or operator that ends the call.
    pub by: String,
}

/// Reply to [`CloseCall`], from the stored `ended` (which may be that of another publisher).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportCalls {
    /// Maximum number of calls, at most [`MAX_CALLS_REPORTED`].
    pub limit: usize,
    /// Only calls with a greater ID: the last one of the previous page.
    pub after: Option<CallId>,
}

/// Reply to [`ReportCalls`], sorted by call ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallsReported {
    /// The calls of this page.
    pub calls: Vec<CallMedia>,
    /// More calls follow: request those after the last one.
    pub more: bool,
}

/// The last sample of a call's media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallMedia {
    /// The sampled call.
    pub call_id: CallId,
    /// The user's RTP; null if none was ever received.
    pub user: Option<PartyMedia>,
    /// The otomo's RTP; null if none was ever received.
    pub otomo: Option<PartyMedia>,
}

/// The RTP of one party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartyMedia {
    /// Time of its last packet, within the worker's sample interval.
    pub last_rtp_at: Timestamp,
    /// Whether the party's RTP is lost.
    pub lost: bool,
    /// Packets of the party's current producer.
    pub packets: u64,
}

/// Keeps new calls from a worker; its calls continue. It is idempotent, and a restart of the worker lifts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cordon {}

/// Lets the worker accept calls again. It is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uncordon {}

/// Reply to [`Cordon`] and [`Uncordon`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CordonState {
    /// Whether the worker is cordoned now.
    pub cordoned: bool,
    /// Calls that it still hosts.
    pub calls: u32,
}

/// Asks whether an otomo is connected, before its call rings. If no edge has a socket of the otomo, NATS replies "no responders" at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryPresence {}

impl Command for QueryPresence {
    type Recipient = OtomoId;
    type Reply = OtomoPresent;

    fn subject(&self, otomo: &OtomoId) -> String {
        subject::presence(otomo)
    }
}

/// Reply to [`QueryPresence`]: the otomo is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OtomoPresent {}

/// Requests the connections of every ws-edge, for `/ops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportEdge {}

/// Every ws-edge replies.
impl Command for ReportEdge {
    type Recipient = ();
    type Reply = EdgeReported;

    fn subject(&self, (): &()) -> String {
        subject::REPORT_EDGES.to_owned()
    }
}

/// Reply to [`ReportEdge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReported {
    /// The edge that replies.
    pub node_id: NodeId,
    /// Open sockets of parties.
    pub sockets: u32,
    /// Open sockets of operators.
    pub operators: u32,
    /// Time of the reply, by the edge's clock.
    pub at: Timestamp,
    /// Start of the process, by the edge's clock.
    pub started_at: Timestamp,
}

/// Another team ends a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = reason_is_optional)]
pub struct Terminate {
    /// Default: `terminated`.
    #[serde(default = "terminated")]
    pub reason: EndReason,
    /// The originator, for the record: letters, digits and `_-:.@`, at most 128.
    pub by: String,
}

/// The wallet extends a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtendCall {
    /// The call, as in the subject: the grant of another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<CallId>,
    /// The new grant.
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

/// Schemas are of what publishers write: the service always writes the reason, other teams need not.
fn reason_is_optional(schema: &mut Schema) {
    let required = schema.get_mut("required").and_then(Value::as_array_mut);
    if let Some(required) = required {
        required.retain(|name| name != "reason");
    }
}

fn terminated() -> EndReason {
    EndReason::Terminated
}
