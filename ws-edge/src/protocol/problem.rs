//! Errors, as clients receive them.

use std::time::Duration;

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::credit::Denial;
use contract::{CallId, Role};
use schemars::JsonSchema;
use serde::Serialize;
use strum::{IntoStaticStr, VariantNames};

use crate::handshake::token::TokenError;

/// The code of an error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, IntoStaticStr, VariantNames)]
#[serde(rename = "ErrorCode", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "each is explained by its text on the wire")]
pub enum Code {
    BadJson,
    BadMessage,
    UnknownType,
    InvalidId,
    BinaryUnsupported,
    SelfReportForbidden,
    RateLimited,
    RoleForbidden,
    CallDenied,
    TokenInvalid,
    TokenExpired,
    Busy,
    OtomoOffline,
    UnknownCall,
    NotAParty,
    WrongState,
    NoCapacity,
    NoWorker,
    WorkerUnreachable,
    Unavailable,
    /// A code of the media-worker, passed on.
    #[serde(untagged)]
    #[strum(transparent)]
    Worker(RefusalCode),
}

impl Code {
    /// The form on the wire.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An error, as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Problem {
    /// The code of the error, for programs.
    pub code: Code,
    /// The explanation, for people.
    pub message: String,
    /// The wallet's reason to deny a call, for programs.
    pub reason: Option<String>,
    /// Of `rate_limited`, for a request that is within the limit later.
    pub retry_after_ms: Option<u64>,
    /// With `busy`: the party that is in another call.
    pub side: Option<Role>,
    /// The call of a repeated `call_request` that is over.
    pub call_id: Option<CallId>,
}

impl Problem {
    /// An error with a message for people.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            retry_after_ms: None,
            side: None,
            call_id: None,
        }
    }

    /// Too many requests; after `wait`, the next one is within the limit.
    pub fn rate_limited(message: &str, wait: Duration) -> Self {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self {
            retry_after_ms: Some(millis.saturating_add(1)),
            ..Self::new(Code::RateLimited, message)
        }
    }

    /// The party is in another call.
    pub fn busy(side: Role) -> Self {
        Self {
            side: Some(side),
            ..Self::new(Code::Busy, format!("the {side} is in another call"))
        }
    }

    /// The call of a repeated `call_request` is over.
    pub fn already_over(call: &CallId) -> Self {
        Self {
            call_id: Some(call.clone()),
            ..Self::new(
                Code::WrongState,
                "the call of this requestKey is over: see its call_status",
            )
        }
    }

    /// The wallet, or the node in its place, denies a call.
    pub fn denied(Denial { code, message }: Denial) -> Self {
        Self {
            reason: Some(code),
            ..Self::new(Code::CallDenied, message)
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Expired => Code::TokenExpired,
            TokenError::OtherRole => Code::RoleForbidden,
            TokenError::NoKeys => Code::Unavailable,
            TokenError::Claim(_) | TokenError::Invalid(_) => Code::TokenInvalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::Worker(refusal.code), refusal.message)
    }
}
