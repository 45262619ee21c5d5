//! Rows of the operations page: wire types. [`RowUpdate`] changes one row.
//!
//! A field of a call's row is declared in [`CallRow`] and filled in its constructors, and nowhere else on this side.

use contract::buckets::active_calls::ActiveCall;
use contract::buckets::media_workers::WorkerStatus;
use contract::views::call_view::{Bill, CallEnd, CallState, CallView, LastTick};
use contract::wire::command::{EdgeReported, PartyMedia};
use contract::{CallId, NodeId, OtomoId, Timestamp, UserId, WorkerId};
use schemars::JsonSchema;
use serde::Serialize;

/// The present content of one row, or its removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum RowUpdate {
    Call(Box<CallRow>),
    /// The media columns of a call that was sent before.
    Media(MediaColumns),
    Worker(WorkerRow),
    Edge(EdgeReported),
    Timer(TimerRow),
    Lease(LeaseRow),
    Gone(RemovedRow),
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallRow {
    pub(super) call_id: CallId,
    pub(super) user_id: UserId,
    pub(super) otomo_id: OtomoId,
    pub(super) state: CallState,
    /// When it entered this state; null if that is not stored yet.
    pub(super) since: Option<Timestamp>,
    pub(super) requested_at: Option<Timestamp>,
    pub(super) accepted_at: Option<Timestamp>,
    pub(super) connected_at: Option<Timestamp>,
    pub(super) worker_id: Option<WorkerId>,
    /// The edge that received the request.
    pub(super) node_id: Option<NodeId>,
    pub(super) last_tick: Option<LastTick>,
    pub(super) user: Option<PartyMediaRow>,
    pub(super) otomo: Option<PartyMediaRow>,
    pub(super) end: Option<CallEnd>,
    pub(super) bill: Option<Bill>,
    pub(super) trace_id: String,
}

/// A party's RTP, by the worker's last report or by a later fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartyMediaRow {
    pub(super) last_rtp_at: Timestamp,
    pub(super) lost: bool,
    /// Null until the worker has reported.
    pub(super) packets: Option<u64>,
}

/// The RTP of both parties of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaColumns {
    pub(super) call_id: CallId,
    pub(super) user: Option<PartyMediaRow>,
    pub(super) otomo: Option<PartyMediaRow>,
}

/// A media-worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkerRow {
    #[serde(flatten)]
    pub(super) status: WorkerStatus,
    /// Whether it answered the last request for its calls' media; null before the first one.
    pub(super) reports: Option<bool>,
}

/// A billing-timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimerRow {
    pub(super) instance_id: NodeId,
    /// When this node last saw its heartbeat.
    pub(super) seen_at: Timestamp,
}

/// A partition of calls, and the instance that ticks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseRow {
    pub(super) partition: u8,
    /// Free if null, or if there is no such instance.
    pub(super) instance_id: Option<NodeId>,
}

/// A row that no longer exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RemovedRow {
    #[serde(rename = "what")]
    pub(super) table: Table,
    pub(super) id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Table {
    Call,
    Worker,
    Edge,
    Timer,
}

impl RowUpdate {
    pub(super) fn removed(table: Table, id: impl ToString) -> Self {
        Self::Gone(RemovedRow {
            table,
            id: id.to_string(),
        })
    }
}

impl CallRow {
    /// A call of which facts are stored.
    pub(super) fn new(view: &CallView) -> Self {
        Self {
            call_id: view.parties.call_id.clone(),
            user_id: view.parties.user_id.clone(),
            otomo_id: view.parties.otomo_id.clone(),
            state: view.state(),
            since: view.since(),
            requested_at: view.requested_at,
            accepted_at: view.accepted_at,
            connected_at: view.connected_at,
            worker_id: view.worker_id.clone(),
            node_id: None,
            last_tick: view.last_tick,
            user: None,
            otomo: None,
            end: view.end.clone(),
            bill: view.bill,
            trace_id: view.traceparent.trace_id(),
        }
    }

    /// A call that has its entry in `active_calls`, while its first fact is on the way.
    pub(super) fn claimed(entry: &ActiveCall) -> Self {
        Self {
            since: Some(entry.requested_at),
            ..Self::new(&CallView::without_facts(entry.parties.clone(), entry.traceparent))
        }
    }
}

impl From<PartyMedia> for PartyMediaRow {
    fn from(media: PartyMedia) -> Self {
        Self {
            last_rtp_at: media.last_rtp_at,
            lost: media.lost,
            packets: Some(media.packets),
        }
    }
}
