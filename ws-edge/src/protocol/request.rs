//! What a client may ask, as types.

use contract::wire::command::Direction;
use contract::{CallId, OtomoId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Number, Value};

/// What a client calls its request; its answer bears the same.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RequestId {
    /// A text of at most 64 characters.
    Text(String),
    /// A number.
    Number(Number),
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// WS-C01, of a user.
    CallRequest {
        /// Who is to be called.
        otomo_id: OtomoId,
    },
    /// WS-C02
    Call(CallRequest),
    /// RTC-01 to RTC-06
    Media(MediaRequest),
}

/// A request about a call that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRequest {
    /// The call.
    pub call_id: CallId,
    /// What is to become of it.
    pub action: CallAction,
}

/// WS-C02
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallAction {
    /// The otomo takes it.
    Accept,
    /// The otomo refuses it.
    Reject,
    /// The user gives up while it rings.
    Cancel,
    /// Either ends it, once it was accepted.
    Hangup,
}

/// A request to the call's media-worker. WebRTC parameters pass through: only the worker can judge them.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaRequest {
    /// The call; the party's only one if left out.
    pub call_id: Option<CallId>,
    /// What is asked.
    pub operation: MediaOperation,
}

/// RTC-01 to RTC-06
#[derive(Debug, Clone, PartialEq)]
pub enum MediaOperation {
    /// RTC-01
    Capabilities,
    /// RTC-02
    CreateTransport(Direction),
    /// RTC-03
    ConnectTransport {
        /// Which.
        transport_id: String,
        /// The client's.
        dtls_parameters: Value,
    },
    /// RTC-04
    Produce {
        /// On which transport.
        transport_id: String,
        /// `audio`, says the worker.
        kind: String,
        /// What the client sends.
        rtp_parameters: Value,
    },
    /// RTC-05
    Consume {
        /// On which transport.
        transport_id: String,
        /// What the client can receive.
        rtp_capabilities: Value,
    },
    /// RTC-06
    Resume {
        /// Which.
        consumer_id: String,
    },
}

impl Request {
    /// Its `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CallRequest { .. } => "call_request",
            Self::Call(request) => match request.action {
                CallAction::Accept => "call_accept",
                CallAction::Reject => "call_reject",
                CallAction::Cancel => "call_cancel",
                CallAction::Hangup => "call_hangup",
            },
            Self::Media(request) => match request.operation {
                MediaOperation::Capabilities => "rtc_capabilities",
                MediaOperation::CreateTransport(_) => "rtc_create_transport",
                MediaOperation::ConnectTransport { .. } => "rtc_connect_transport",
                MediaOperation::Produce { .. } => "rtc_produce",
                MediaOperation::Consume { .. } => "rtc_consume",
                MediaOperation::Resume { .. } => "rtc_resume",
            },
        }
    }
}
