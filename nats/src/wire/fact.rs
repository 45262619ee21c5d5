//! Facts: events in a call, stored on `call.<callId>.<fact>` and never changed.
//!
//! Each fact is one struct below and one entry in the table at the end of this file. The entry declares how often a call
//! may have it, who may publish it, when it happened and which notices follow. The kinds, the JSON schema
//! (`docs/src/schema/facts.json`), the publish rights and the list of self-reports follow from it ([`crate::wire::rights`]).
//!
//! The serialised forms are frozen by the golden files in `tests/golden`. Kinds, fields and reasons may be added: readers keep
//! what they do not know as text, and count it ([`crate::wire::unknown`]).

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::wire::credit::{Grant, optional_grant};
use crate::wire::id::{GrantId, WorkerId};
use crate::wire::notice::{Notice, NoticeKind};
use crate::wire::party::{Parties, Role};
use crate::wire::payload::PayloadType;
use crate::wire::service::Service;
use crate::wire::terms::Terms;
use crate::wire::time::Timestamp;
use facts_macro::{facts, occurrence};

mod facts_macro;
mod notices;

pub use crate::wire::reason::{EndReason, Method};
pub use facts_macro::{Declaration, Occurrence};

/// The user requested the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requested {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// When the request reached the edge, by the edge's clock.
    pub requested_at: Timestamp,
    /// With credit control: the first grant, by the wallet or by the edge's fallback.
    #[serde(flatten, with = "optional_grant")]
    #[schemars(with = "Option<Grant>")]
    pub grant: Option<Grant>,
    /// The terms of the call. Absent in calls of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

impl Requested {
    /// A request without credit control and without terms.
    pub fn new(parties: Parties, requested_at: Timestamp) -> Self {
        Self {
            parties,
            requested_at,
            grant: None,
            terms: None,
        }
    }
}

/// The otomo accepted the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// When the answer reached the edge, by the edge's clock.
    pub accepted_at: Timestamp,
    /// The media-worker that hosts the call.
    pub worker_id: WorkerId,
    /// Start of its process, by its own clock, as in `media_workers`: another process of that name does not have the call. Absent in
    /// calls of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_started_at: Option<Timestamp>,
}

/// The SFU received the first audio RTP packet: the call is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtpDetected {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The worker's wall clock when it saw that packet.
    pub connected_at: Timestamp,
    /// How it detected the packet.
    pub method: Method,
    /// The party that sent the packet.
    pub detected_from: Role,
    /// The terms of the call. Absent in calls of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// The packet that connected the call.
    #[serde(flatten)]
    pub evidence: RtpEvidence,
}

/// The RTP packet that proves a fact (RFC 3550 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtpEvidence {
    /// Evidence: the worker that saw the packet.
    pub worker_id: WorkerId,
    /// Evidence: the mediasoup producer that it arrived on.
    pub producer_id: String,
    /// Evidence: the packet's SSRC.
    pub ssrc: u32,
    /// Evidence: the packet's sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<u16>,
    /// Evidence: the packet's RTP timestamp, time zero of any recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_timestamp: Option<u32>,
}

/// The SFU received the first RTP packet of the party that did not connect the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaStarted {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The party that sent its first packet.
    pub party: Role,
    /// When that packet was received, by the worker's clock.
    pub at: Timestamp,
    /// That packet.
    #[serde(flatten)]
    pub evidence: RtpEvidence,
}

/// A party's RTP stopped, or never began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtpLost {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The party whose RTP stopped or never began.
    pub party: Role,
    /// When its last packet was received; null if none ever was: its silence runs from `connectedAt`.
    pub last_rtp_at: Option<Timestamp>,
    /// When the silence was declared a loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// Length of the silence when it was declared a loss, in milliseconds.
    pub gap_ms: u64,
}

/// A party's RTP resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RtpResumed {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The party whose RTP resumed.
    pub party: Role,
    /// When its next packet was received.
    pub at: Timestamp,
    /// Length of the silence, in milliseconds.
    pub gap_ms: u64,
}

/// The wallet extended the call. The first grant is in [`Requested`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditGranted {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The wallet's identifier of the grant.
    pub grant_id: GrantId,
    /// The duration that is granted in all, from `connectedAt`, in milliseconds.
    pub until_ms: u64,
    /// When the worker received it.
    pub granted_at: Timestamp,
}

/// The granted time is nearly over: the wallet may extend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreditLow {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// The grant that is nearly used up.
    pub grant_id: GrantId,
    /// The granted time that was left, in milliseconds.
    pub remaining_ms: u64,
    /// The duration that is granted in all, from `connectedAt`, in milliseconds.
    pub until_ms: u64,
    /// When so much was left.
    pub at: Timestamp,
}

/// A minute is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tick {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// Number of the complete minute: 1, 2, …
    pub minute: u32,
    /// Time at which it was due: `connectedAt` + minute × interval.
    pub at: Timestamp,
    /// When the call was connected.
    pub connected_at: Timestamp,
}

/// The call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// When the call ended. For a dead stream this is its last packet, not the time of detection.
    pub ended_at: Timestamp,
    /// Why the call ended.
    pub reason: EndReason,
    /// The party, process or operator that ended it: `user`, `otomo`, a worker or node ID, a name.
    pub by: String,
    /// When the call was connected; null if it never was.
    pub connected_at: Option<Timestamp>,
    /// From `connectedAt` to `endedAt` by the worker's monotonic clock, in milliseconds. Absent if the publisher has no
    /// such measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// By how much the worker's wall clock ran ahead of its monotonic clock from `connectedAt` to `endedAt`, in
    /// milliseconds; negative if it fell behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_step_ms: Option<i64>,
    /// The party whose silence alone ended the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<Role>,
    /// The terms of the call. Absent in calls of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// The call's record: the authority on the bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
    /// When the call was connected; null if it never was.
    pub connected_at: Option<Timestamp>,
    /// When the call ended.
    pub ended_at: Timestamp,
    /// The `durationMs` of `ended`, else from `connectedAt` to `endedAt`, in milliseconds; 0 if it was never connected.
    pub duration_ms: u64,
    /// Ticks due up to `endedAt`.
    pub ticks: u32,
    /// Ticks that were stored beyond `endedAt`, not billed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub over_ticks: u32,
    /// Minutes that the user pays for.
    pub billed_minutes: u32,
    /// Why the call ended.
    pub reason: EndReason,
    /// The time that the billed minutes are rounded from, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_ms: Option<u64>,
    /// How long each party was silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<SilentMs>,
    /// The duration that was granted, in milliseconds. Absent without credit control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// The terms of the call. Absent in calls of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// How long each party of a call was silent, in milliseconds. Only silence that was declared a loss counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilentMs {
    /// Silence of the user, in milliseconds.
    pub user: u64,
    /// Silence of the otomo, in milliseconds.
    pub otomo: u64,
}

impl Accepted {
    /// Whether the process of a worker that was started at this time accepted the call, by its identity: no two clocks are compared.
    /// Facts of earlier versions do not name the process.
    pub fn is_by(&self, worker: &WorkerId, started_at: Timestamp) -> bool {
        self.worker_id == *worker && self.worker_started_at.is_none_or(|other| other == started_at)
    }
}

impl Fact {
    /// Why the call ended, in facts that have it.
    pub fn reason(&self) -> Option<EndReason> {
        match self {
            Self::Ended(fact) => Some(fact.reason),
            Self::Settled(fact) => Some(fact.reason),
            _ => None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

facts! {
    /// The user requested the call.
    Requested: once, by [WsEdge], at requested_at, notices [IncomingCall];
    /// The otomo accepted the call.
    Accepted: once, by [WsEdge], at accepted_at, notices [CallAccepted];
    /// The SFU received the first audio RTP packet: the call is connected.
    RtpDetected: once, by [MediaWorker], at connected_at, notices [CallConnected];
    /// The SFU received the first RTP packet of the party that did not connect the call.
    MediaStarted: once, by [MediaWorker], at at, notices [];
    /// A party's RTP stopped, or never began.
    RtpLost: many per party, by [MediaWorker], at last_rtp_at or lost_at, notices [MediaLost];
    /// A party's RTP resumed.
    RtpResumed: many per party, by [MediaWorker], at at, notices [MediaResumed];
    /// The wallet extended the call.
    CreditGranted: once per grant_id, by [MediaWorker], at granted_at, notices [CreditGranted];
    /// The granted time is nearly over.
    CreditLow: once per grant_id, by [MediaWorker], at at, notices [CreditLow];
    /// A minute is complete.
    Tick: once per minute, by [BillingTimer], at at, notices [Tick];
    /// The call ended.
    Ended: once, by [MediaWorker, WsEdge], at ended_at, notices [CallEnded];
    /// The call's record: the authority on the bill.
    Settled: once, by [BillingTimer], at ended_at, notices [CallEnded];
}
