//! Facts as stored messages: subject, event ID and payload.

use bytes::Bytes;
use thiserror::Error;

use crate::wire::fact::{Fact, FactKind, Occurrence};
use crate::wire::id::CallId;
use crate::wire::subject;

/// Why a message on a fact's subject is not that fact.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The subject is not one of a fact.
    #[error("{0:?} is not the subject of a fact")]
    Subject(String),
    /// A kind of a later version. This is no fault of the message: readers keep it as text and continue.
    #[error("{kind:?} is an unknown kind of fact")]
    UnknownKind {
        /// The call in the subject.
        call: CallId,
        /// The last token of the subject.
        kind: String,
    },
    /// The payload does not have the fact's shape.
    #[error("not a {kind}: {error}")]
    Payload {
        /// The kind that the subject names.
        kind: FactKind,
        /// Where the payload differs from that kind.
        error: serde_json::Error,
    },
    /// The payload belongs to another call than the subject.
    #[error("the subject names call {subject}, the payload {payload}")]
    OtherCall {
        /// The call in the subject.
        subject: CallId,
        /// The call in the payload.
        payload: CallId,
    },
}

impl Fact {
    /// The subject on which it is stored.
    pub fn subject(&self) -> String {
        subject::fact(self.call_id(), self.kind())
    }

    /// The call that the fact belongs to.
    pub fn call_id(&self) -> &CallId {
        &self.parties().call_id
    }

    /// An identifier that a second publication of the same fact has too (CloudEvents `id`).
    pub fn event_id(&self) -> String {
        let (call, kind) = (self.call_id(), self.kind());
        let key = self.key().unwrap_or_default();
        match kind.declaration().occurrence {
            Occurrence::Once => format!("{call}.{kind}"),
            Occurrence::OncePer(_) => format!("{call}.{kind}.{key}"),
            Occurrence::ManyPer(_) => format!("{call}.{kind}.{key}.{}", self.occurred_at().as_millis()),
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
    /// [`DecodeError`] if subject and payload are not a fact of a known kind, or do not agree.
    pub fn decode(subject: &str, payload: &[u8]) -> Result<Self, DecodeError> {
        let (call, kind) = subject::split_fact(subject).ok_or_else(|| DecodeError::Subject(subject.to_owned()))?;
        let Ok(kind) = kind.parse::<FactKind>() else {
            let kind = kind.to_owned();
            return Err(DecodeError::UnknownKind { call, kind });
        };
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
