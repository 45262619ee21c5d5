//! What can be wrong, as a client is told it.

use contract::jetstream::request::{Refusal, RefusalCode};
use schemars::JsonSchema;

/// What is wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "ErrorCode", rename_all = "snake_case")]
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
    Busy,
    UnknownCall,
    NotAParty,
    WrongState,
    NoWorker,
    WorkerUnreachable,
    Unavailable,
    /// The media-worker's own, passed on.
    #[schemars(untagged)]
    Worker(RefusalCode),
}

impl Code {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadMessage => "bad_message",
            Self::UnknownType => "unknown_type",
            Self::InvalidId => "invalid_id",
            Self::BinaryUnsupported => "binary_unsupported",
            Self::SelfReportForbidden => "self_report_forbidden",
            Self::RateLimited => "rate_limited",
            Self::RoleForbidden => "role_forbidden",
            Self::Busy => "busy",
            Self::UnknownCall => "unknown_call",
            Self::NotAParty => "not_a_party",
            Self::WrongState => "wrong_state",
            Self::NoWorker => "no_worker",
            Self::WorkerUnreachable => "worker_unreachable",
            Self::Unavailable => "unavailable",
            Self::Worker(code) => code.as_str(),
        }
    }
}

/// An error as a client is told it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Problem {
    /// With words for people.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::Worker(refusal.code), refusal.message)
    }
}
