//! Facts: what has happened in a call, stored on `call.<callId>.<fact>` and never changed.
//!
//! The serialised forms are frozen by the golden files in `tests/golden`. Fields may be added; readers ignore those that
//! they do not know.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire::id::{CallId, WorkerId};
use crate::wire::party::{Parties, Role};
use crate::wire::subject;
use crate::wire::time::Timestamp;

/// Why a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// A party hung up.
    Hangup,
    /// The otomo refused.
    Rejected,
    /// The user gave up while it rang.
    Cancelled,
    /// Nobody answered in time.
    NoAnswer,
    /// Accepted, but no RTP came.
    MediaTimeout,
    /// RTP died.
    RtpTimeout,
    /// The media-worker disappeared.
    WorkerLost,
    /// The media-worker was shut down.
    WorkerShutdown,
    /// The longest allowed duration was reached.
    MaxDuration,
    /// An operator or another team ended it.
    Terminated,
}

/// How the SFU knew; there is one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The SFU received the first audio RTP packet.
    SfuRtpDetected,
}

macro_rules! facts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* } at $at:ident;)*) => {
        /// The kinds of facts; the last token of the subject.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FactKind {
            $($(#[$doc])* $variant,)*
        }

        impl FactKind {
            /// Every kind, in the order in which a call goes through them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written in subjects.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase")]
            pub struct $variant {
                /// The call and who is in it.
                #[serde(flatten)]
                pub parties: Parties,
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl From<$variant> for Fact {
                fn from(fact: $variant) -> Self {
                    Self::$variant(fact)
                }
            }
        )*

        /// A fact of any kind.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fact {
            $($(#[$doc])* $variant($variant),)*
        }

        impl Fact {
            /// Which kind.
            pub fn kind(&self) -> FactKind {
                match self { $(Self::$variant(_) => FactKind::$variant,)* }
            }

            /// The call and who is in it.
            pub fn parties(&self) -> &Parties {
                match self { $(Self::$variant(fact) => &fact.parties,)* }
            }

            /// When it happened, which may be long before it was stored.
            pub fn occurred_at(&self) -> Timestamp {
                match self { $(Self::$variant(fact) => fact.$at,)* }
            }

            fn to_json(&self) -> serde_json::Result<Vec<u8>> {
                match self { $(Self::$variant(fact) => serde_json::to_vec(fact),)* }
            }

            fn from_json(kind: FactKind, payload: &[u8]) -> serde_json::Result<Self> {
                match kind { $(FactKind::$variant => read::<$variant>(payload).map(Self::$variant),)* }
            }
        }
    };
}

facts! {
    /// The user asked for the call. Published by ws-edge, once.
    Requested = "requested" {
        /// When the request reached the edge.
        requested_at: Timestamp,
    } at requested_at;

    /// The otomo took the call. Published by ws-edge, once.
    Accepted = "accepted" {
        /// When the answer reached the edge.
        accepted_at: Timestamp,
        /// The media-worker that hosts the call.
        worker_id: WorkerId,
    } at accepted_at;

    /// The SFU received the first audio RTP packet: the call has begun. Published by media-worker, once.
    RtpDetected = "rtp_detected" {
        /// The worker's wall clock when it saw that packet.
        connected_at: Timestamp,
        /// How it knew.
        method: Method,
        /// Whose packet it was.
        detected_from: Role,
        /// Evidence: the worker that saw it.
        worker_id: WorkerId,
        /// Evidence: the mediasoup producer that it arrived on.
        producer_id: String,
        /// Evidence: the SSRC of the packet (RFC 3550 section 5.1).
        ssrc: u32,
    } at connected_at;

    /// A party's RTP stopped. Published by media-worker, any number of times.
    RtpLost = "rtp_lost" {
        /// Whose RTP.
        party: Role,
        /// When its last packet was seen.
        last_rtp_at: Timestamp,
        /// Silence until it was called a loss, in milliseconds.
        gap_ms: u64,
    } at last_rtp_at;

    /// A party's RTP came back. Published by media-worker, any number of times.
    RtpResumed = "rtp_resumed" {
        /// Whose RTP.
        party: Role,
        /// When a packet was seen again.
        at: Timestamp,
        /// Silence in all, in milliseconds.
        gap_ms: u64,
    } at at;

    /// A minute is full. Published by billing-timer, once a minute, each only if nothing was stored of the call since the one before was counted.
    Tick = "tick" {
        /// 1, 2, …
        minute: u32,
        /// When it was due: `connectedAt` + minute × interval.
        at: Timestamp,
        /// When the call had begun.
        connected_at: Timestamp,
    } at at;

    /// The call is over. Published by whoever ends it, once.
    Ended = "ended" {
        /// When it was over; for a dead stream that is its last packet, not the moment of noticing.
        ended_at: Timestamp,
        /// Why.
        reason: EndReason,
        /// Who or what ended it: `user`, `otomo`, a worker or node ID, an operator.
        by: String,
        /// When it had begun; null if it never did.
        connected_at: Option<Timestamp>,
    } at ended_at;

    /// The call's record: the authority on what is billed. Published by billing-timer, once.
    Settled = "settled" {
        /// When it had begun; null if it never did.
        connected_at: Option<Timestamp>,
        /// When it was over.
        ended_at: Timestamp,
        /// From the one to the other, in milliseconds; 0 if it never began.
        duration_ms: u64,
        /// Ticks due up to `endedAt`.
        ticks: u32,
        /// Ticks that were stored beyond `endedAt`, not billed.
        #[serde(default, skip_serializing_if = "is_zero")]
        over_ticks: u32,
        /// What the user pays for.
        billed_minutes: u32,
        /// Why it ended.
        reason: EndReason,
    } at ended_at;
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(payload)
}

/// Why a message on a fact's subject is not that fact.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The subject is none of a fact.
    #[error("{0:?} is not the subject of a fact")]
    Subject(String),
    /// The payload does not have the fact's shape.
    #[error("not a {kind}: {error}")]
    Payload {
        /// What the subject promises.
        kind: FactKind,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The payload speaks of another call than its subject.
    #[error("the subject names call {subject}, the payload {payload}")]
    OtherCall {
        /// The call in the subject.
        subject: CallId,
        /// The call in the payload.
        payload: CallId,
    },
}

impl Fact {
    /// Where it is stored.
    pub fn subject(&self) -> String {
        subject::fact(&self.parties().call_id, self.kind())
    }

    /// The call.
    pub fn call_id(&self) -> &CallId {
        &self.parties().call_id
    }

    /// An identifier that a second publication of the same fact has too (CloudEvents `id`).
    pub fn event_id(&self) -> String {
        let (call, kind) = (self.call_id(), self.kind());
        match self {
            Self::Tick(tick) => format!("{call}.{kind}.{}", tick.minute),
            Self::RtpLost(RtpLost { party, .. }) | Self::RtpResumed(RtpResumed { party, .. }) => {
                format!("{call}.{kind}.{party}.{}", self.occurred_at().as_millis())
            }
            _ => format!("{call}.{kind}"),
        }
    }

    /// The payload as it is stored.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form. The error is passed on rather than hidden.
    pub fn encode(&self) -> serde_json::Result<Bytes> {
        self.to_json().map(Bytes::from)
    }

    /// Reads a stored message.
    ///
    /// # Errors
    /// [`DecodeError`] if subject and payload are not a fact, or do not agree.
    pub fn decode(subject: &str, payload: &[u8]) -> Result<Self, DecodeError> {
        let (call, kind) = subject::parse_fact(subject).ok_or_else(|| DecodeError::Subject(subject.to_owned()))?;
        let fact = Self::from_json(kind, payload).map_err(|error| DecodeError::Payload { kind, error })?;
        if *fact.call_id() == call {
            Ok(fact)
        } else {
            Err(DecodeError::OtherCall {
                subject: call,
                payload: fact.call_id().clone(),
            })
        }
    }
}

impl fmt::Display for FactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FactKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(())
    }
}
