//! Notices: what a party's screen is told, on `user.<userId>.<notice>` and `otomo.<otomoId>.<notice>`.
//!
//! The NATS payload is the WebSocket message itself (`{"type": …, "payload": …}`): an edge forwards the bytes and need
//! not understand them. A notice goes out only after the fact behind it is stored.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::jetstream::notice_publisher::NoticePublisher;
use crate::wire::fact::{Accepted, EndReason, Ended, Method, RtpDetected, Settled, Tick};
use crate::wire::id::{CallId, OtomoId, UserId};
use crate::wire::party::{Parties, Role};
use crate::wire::subject;
use crate::wire::time::Timestamp;

/// A message from the server to a party, as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        match self {
            Self::IncomingCall { .. } => "incoming_call",
            Self::CallAccepted { .. } => "call_accepted",
            Self::RtcNewProducer { .. } => "rtc_new_producer",
            Self::CallConnected { .. } => "call_connected",
            Self::Tick { .. } => "tick",
            Self::MediaLost { .. } => "media_lost",
            Self::MediaResumed { .. } => "media_resumed",
            Self::CallEnded { .. } => "call_ended",
        }
    }

    /// The bytes on the wire, for NATS and for the WebSocket alike.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form.
    pub fn encode(&self) -> serde_json::Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from)
    }

    /// What both parties are told of a stored `accepted`.
    pub fn accepted(fact: &Accepted) -> Self {
        let Parties {
            call_id,
            user_id,
            otomo_id,
        } = fact.parties.clone();
        Self::CallAccepted {
            call_id,
            user_id,
            otomo_id,
            accepted_at: fact.accepted_at,
        }
    }

    /// What both parties are told of a stored `rtp_detected`.
    pub fn connected(fact: &RtpDetected) -> Self {
        let Parties {
            call_id,
            user_id,
            otomo_id,
        } = fact.parties.clone();
        Self::CallConnected {
            call_id,
            user_id,
            otomo_id,
            connected_at: fact.connected_at,
            method: fact.method,
        }
    }

    /// What both parties are told of a stored `tick`.
    pub fn tick(fact: &Tick) -> Self {
        Self::Tick {
            call_id: fact.parties.call_id.clone(),
            minute: fact.minute,
            at: fact.at,
            connected_at: fact.connected_at,
        }
    }

    /// What both parties are told of a stored `ended`, if the call never began.
    ///
    /// The end of a call that did begin is told by [`Notice::settled`]: only the settlement knows what is billed.
    pub fn ended_unconnected(fact: &Ended) -> Option<Self> {
        fact.connected_at.is_none().then(|| Self::CallEnded {
            call_id: fact.parties.call_id.clone(),
            ended_at: fact.ended_at,
            reason: fact.reason,
            duration_ms: 0,
            billed_minutes: 0,
        })
    }

    /// What both parties are told of a stored `settled`, if the call had begun; see [`Notice::ended_unconnected`].
    pub fn settled(fact: &Settled) -> Option<Self> {
        fact.connected_at.is_some().then(|| Self::CallEnded {
            call_id: fact.parties.call_id.clone(),
            ended_at: fact.ended_at,
            reason: fact.reason,
            duration_ms: fact.duration_ms,
            billed_minutes: fact.billed_minutes,
        })
    }
}

/// Tells `roles` of a call. A notice that cannot be sent is logged and not tried again: who missed it asks for a
/// snapshot on reconnecting, and what happened is in the stream.
pub async fn tell(notice_publisher: &NoticePublisher, parties: &Parties, roles: &[Role], notice: &Notice) {
    let payload = match notice.encode() {
        Ok(payload) => payload,
        Err(error) => {
            tracing::error!(call_id = %parties.call_id, notice = notice.name(), %error, "a notice could not be encoded");
            return;
        }
    };
    for role in roles {
        let subject = subject::notice(&parties.party(*role), notice.name());
        if let Err(error) = notice_publisher.say(subject, payload.clone()).await {
            tracing::warn!(call_id = %parties.call_id, notice = notice.name(), %role, %error, "a notice was not sent");
        }
    }
    // The client writes from a task of its own: it goes first, whatever the caller does next.
    tokio::task::yield_now().await;
}

/// Tells both sides, see [`tell`].
pub async fn tell_both(notice_publisher: &NoticePublisher, parties: &Parties, notice: &Notice) {
    tell(notice_publisher, parties, &Role::BOTH, notice).await;
}
