//! The state of a party's call, as clients receive it when they connect, and after an outage.

use contract::wire::fact::Method;
use contract::{CallId, OtomoId, Role, Timestamp, UserId};
use schemars::JsonSchema;
use serde::Serialize;

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "each field is described by its name")]
pub struct CallSnapshot {
    pub call_id: CallId,
    pub user_id: UserId,
    pub otomo_id: OtomoId,
    pub state: SnapshotState,
    pub requested_at: Timestamp,
    /// While it rings.
    pub expires_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
    /// The original one, from the stream.
    pub connected_at: Option<Timestamp>,
    pub method: Option<Method>,
    pub last_tick: Option<LastTick>,
    /// The parties whose RTP is lost.
    pub lost: Vec<Role>,
    /// With credit control, for the user: the duration that is granted so far, from `connectedAt`, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// With credit control, for the user: whether `credit_low` was sent for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub credit_low: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each state is described by its name")]
pub enum SnapshotState {
    Ringing,
    Accepted,
    Connected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "as in the fact `tick`")]
pub struct LastTick {
    pub minute: u32,
    pub at: Timestamp,
}

/// The payload of `snapshot`, and part of that of `welcome`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Null if the party is in no call.
    pub active_call: Option<CallSnapshot>,
}

/// The payload of `welcome`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Welcome<'a> {
    /// This socket's name in logs.
    pub session_id: &'a str,
    /// How often to send `ping`, in milliseconds; 0: never.
    pub heartbeat_ms: u64,
    /// The state of the party's call.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}
