//! Notices: WebSocket messages for one party, on `user.<userId>.<notice>` and `otomo.<otomoId>.<notice>`.
//!
//! The NATS payload is the WebSocket message itself (`{"type": …, "payload": …}`): an edge forwards the bytes without
//! decoding them. A notice is sent only after the fact behind it is stored.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumString, IntoStaticStr, VariantArray};

use crate::wire::id::{CallId, OtomoId, UserId};
use crate::wire::party::Role;
use crate::wire::reason::{EndReason, Method};
use crate::wire::service::Service;
use crate::wire::time::Timestamp;

/// A message from the server to a party, in its serialised form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, EnumDiscriminants)]
#[strum_discriminants(
    name(NoticeKind),
    derive(Hash, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantArray),
    strum(serialize_all = "snake_case"),
    doc = "The kinds of notices; the last token of the subject."
)]
#[serde(
    tag = "type",
    content = "payload",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum Notice {
    /// WS-S01, to the otomo: a call rings.
    IncomingCall {
        /// The call that rings.
        call_id: CallId,
        /// The caller.
        user_id: UserId,
        /// End of the ringing, by the edge's clock.
        expires_at: Timestamp,
    },
    /// WS-S02, to both: the otomo accepted the call, clients can set up their media.
    CallAccepted {
        /// The accepted call.
        call_id: CallId,
        /// The caller.
        user_id: UserId,
        /// The called party.
        otomo_id: OtomoId,
        /// Time of the acceptance, by the edge's clock.
        accepted_at: Timestamp,
    },
    /// RTC-05, to the peer: a producer can be consumed.
    RtcNewProducer {
        /// The call of the producer.
        call_id: CallId,
        /// The peer's producer.
        producer_id: String,
    },
    /// To the party itself: another of its sockets has created a transport, which replaces this one.
    RtcTransportReplaced {
        /// The call of the transport.
        call_id: CallId,
        /// The transport that is closed.
        transport_id: String,
    },
    /// WS-S04, to both: the SFU received the first RTP packet. Exactly these five fields.
    CallConnected {
        /// The connected call.
        call_id: CallId,
        /// The caller.
        user_id: UserId,
        /// The called party.
        otomo_id: OtomoId,
        /// Time at which the SFU received that packet, by the worker's clock.
        connected_at: Timestamp,
        /// Always `sfu_rtp_detected`.
        method: Method,
    },
    /// WS-S05, to both: a minute is complete.
    Tick {
        /// The call whose minute is complete.
        call_id: CallId,
        /// Number of the complete minute: 1, 2, …
        minute: u32,
        /// Time at which it was due: `connectedAt` + minute × interval.
        at: Timestamp,
        /// Time at which the call was connected, by the worker's clock.
        connected_at: Timestamp,
    },
    /// WS-S07, to both: a party's RTP stopped.
    MediaLost {
        /// The call in which RTP stopped.
        call_id: CallId,
        /// The party whose RTP stopped.
        party: Role,
    },
    /// WS-S07, to both: a party's RTP resumed.
    MediaResumed {
        /// The call in which RTP resumed.
        call_id: CallId,
        /// The party whose RTP resumed.
        party: Role,
    },
    /// WS-S08, to the user: the wallet extended the call.
    CreditGranted {
        /// The extended call.
        call_id: CallId,
        /// The duration that is granted in all, from `connectedAt`, in milliseconds.
        until_ms: u64,
    },
    /// WS-S08, to the user: the granted time is nearly over.
    CreditLow {
        /// The call whose granted time is nearly over.
        call_id: CallId,
        /// The granted time that was left, in milliseconds.
        remaining_ms: u64,
        /// The duration that is granted in all, from `connectedAt`, in milliseconds.
        until_ms: u64,
    },
    /// WS-S06, to both: the call is over.
    CallEnded {
        /// The call that is over.
        call_id: CallId,
        /// End of the call. For a dead stream this is its last packet, not the time of detection.
        ended_at: Timestamp,
        /// Why the call ended.
        reason: EndReason,
        /// Duration of the connection, in milliseconds.
        duration_ms: u64,
        /// Minutes that the user pays for.
        billed_minutes: u32,
    },
}

impl Notice {
    /// The last token of its subject, and its `type` on the wire.
    pub fn name(&self) -> &'static str {
        NoticeKind::from(self).into()
    }

    /// The parties that receive it after its fact.
    pub fn recipients(&self) -> &'static [Role] {
        match self {
            Self::CreditGranted { .. } | Self::CreditLow { .. } => &[Role::User],
            Self::IncomingCall { .. } => &[Role::Otomo],
            _ => &Role::BOTH,
        }
    }

    /// The bytes on the wire, for NATS and for the WebSocket alike.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form.
    pub fn encode(&self) -> serde_json::Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from)
    }
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The service that publishes it, for a notice that follows no fact.
    pub fn publisher_without_fact(self) -> Option<Service> {
        matches!(self, Self::RtcNewProducer | Self::RtcTransportReplaced).then_some(Service::MediaWorker)
    }
}
