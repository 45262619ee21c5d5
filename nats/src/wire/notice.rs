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
    /// WS-S01, to the otomo: it rings.
    IncomingCall {
        /// The call.
        call_id: CallId,
        /// Who calls.
        user_id: UserId,
        /// When it stops ringing.
        expires_at: Timestamp,
    },
    /// WS-S02, to both: the otomo took the call, media may be set up.
    CallAccepted {
        /// The call.
        call_id: CallId,
        /// Who calls.
        user_id: UserId,
        /// Who is called.
        otomo_id: OtomoId,
        /// When it was taken.
        accepted_at: Timestamp,
    },
    /// RTC-05, to the peer: there is something to consume.
    RtcNewProducer {
        /// The call.
        call_id: CallId,
        /// The peer's producer.
        producer_id: String,
    },
    /// WS-S04, to both: the SFU received the first RTP packet. Exactly these five fields.
    CallConnected {
        /// The call.
        call_id: CallId,
        /// Who calls.
        user_id: UserId,
        /// Who is called.
        otomo_id: OtomoId,
        /// When the SFU saw that packet.
        connected_at: Timestamp,
        /// Always `sfu_rtp_detected`.
        method: Method,
    },
    /// WS-S05, to both: a minute is full.
    Tick {
        /// The call.
        call_id: CallId,
        /// 1, 2, …
        minute: u32,
        /// When it was due.
        at: Timestamp,
        /// When the call had begun.
        connected_at: Timestamp,
    },
    /// WS-S07, to both: a party's RTP stopped.
    MediaLost {
        /// The call.
        call_id: CallId,
        /// Whose RTP.
        party: Role,
    },
    /// WS-S07, to both: a party's RTP came back.
    MediaResumed {
        /// The call.
        call_id: CallId,
        /// Whose RTP.
        party: Role,
    },
    /// WS-S06, to both: the call is over.
    CallEnded {
        /// The call.
        call_id: CallId,
        /// When it was over.
        ended_at: Timestamp,
        /// Why.
        reason: EndReason,
        /// How long it was connected, in milliseconds.
        duration_ms: u64,
        /// What the user pays for.
        billed_minutes: u32,
    },
}

impl Notice {
    /// The last token of its subject, and its `type` on the wire.
    pub fn name(&self) -> &'static str {
        NoticeKind::from(self).into()
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
        matches!(self, Self::RtcNewProducer).then_some(Service::MediaWorker)
    }
}
