//! What a viewer is told of, one thing at a time: wire types.

use contract::buckets::fleet::WorkerStatus;
use contract::views::call_view::{Bill, CallEnd, CallState, CallView, LastTick};
use contract::wire::command::{EdgeReported, PartyMedia};
use contract::{CallId, NodeId, OtomoId, Timestamp, UserId, WorkerId};
use serde::Serialize;

/// One thing as it is now; or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Item {
    Call(Box<CallRow>),
    /// Of a call that was told already.
    Media(MediaRow),
    Worker(WorkerRow),
    Edge(EdgeReported),
    Timer(TimerRow),
    Lease(LeaseRow),
    Gone(Gone),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallRow {
    pub(super) call_id: CallId,
    pub(super) user_id: UserId,
    pub(super) otomo_id: OtomoId,
    pub(super) state: CallState,
    /// Since when it is in this state; null where that is not known yet.
    pub(super) since: Option<Timestamp>,
    pub(super) requested_at: Option<Timestamp>,
    pub(super) accepted_at: Option<Timestamp>,
    pub(super) connected_at: Option<Timestamp>,
    pub(super) worker_id: Option<WorkerId>,
    /// The edge that took the request.
    pub(super) node_id: Option<NodeId>,
    pub(super) last_tick: Option<LastTick>,
    pub(super) user: Option<SideRow>,
    pub(super) otomo: Option<SideRow>,
    pub(super) end: Option<CallEnd>,
    pub(super) bill: Option<Bill>,
    pub(super) trace_id: String,
}

/// What one party sends, by the worker's last report or by a later fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SideRow {
    pub(super) last_rtp_at: Timestamp,
    pub(super) lost: bool,
    /// Null until the worker has reported.
    pub(super) packets: Option<u64>,
}

impl From<PartyMedia> for SideRow {
    fn from(media: PartyMedia) -> Self {
        Self {
            last_rtp_at: media.last_rtp_at,
            lost: media.lost,
            packets: Some(media.packets),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaRow {
    pub(super) call_id: CallId,
    pub(super) user: Option<SideRow>,
    pub(super) otomo: Option<SideRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkerRow {
    #[serde(flatten)]
    pub(super) status: WorkerStatus,
    /// It answered when it was last asked for its calls' media; null before it was.
    pub(super) reports: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimerRow {
    pub(super) instance_id: NodeId,
    /// When its last sign of life was seen here.
    pub(super) seen_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseRow {
    pub(super) partition: u8,
    /// Nobody's if null, or if there is no such instance.
    pub(super) instance_id: Option<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gone {
    pub(super) what: Thing,
    pub(super) id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Thing {
    Call,
    Worker,
    Edge,
    Timer,
}

impl Item {
    pub(super) fn gone(what: Thing, id: impl ToString) -> Self {
        Self::Gone(Gone {
            what,
            id: id.to_string(),
        })
    }
}

impl CallRow {
    /// From what the facts tell.
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
}
