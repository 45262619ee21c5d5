//! The WebSocket protocol: envelopes read into typed requests, and answers written.

mod field;

use nats::command::Direction;
use nats::request::{Refusal, RefusalCode};
use nats::{CallId, OtomoId};
use serde::Serialize;
use serde_json::{Map, Number, Value};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use field::Fields;

/// The longest `id` of a request, in characters.
const MAX_REQUEST_ID_CHARS: usize = 64;
/// How much of an unknown type is quoted back, in characters.
const QUOTED_CHARS: usize = 40;

/// What a client calls its request; its answer bears the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// What is wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A message that is no request, and the `id` of its error if it has a usable one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unread {
    /// To be answered with.
    pub id: Option<RequestId>,
    /// What is wrong.
    pub problem: Problem,
}

/// What a client would say if it claimed to know better than the SFU, besides anything with "connected" in it: every
/// notice of the server, and every fact.
const SELF_REPORTS: [&str; 15] = [
    "accepted",
    "call_accepted",
    "call_ended",
    "ended",
    "incoming_call",
    "media_lost",
    "media_resumed",
    "requested",
    "rtc_new_producer",
    "rtp_detected",
    "rtp_lost",
    "rtp_resumed",
    "settled",
    "tick",
    "welcome",
];

fn is_self_report(kind: &str) -> bool {
    SELF_REPORTS.contains(&kind) || kind.contains("connected")
}

/// Reads a text message.
///
/// # Errors
/// [`Unread`]: what to answer instead.
pub fn parse(text: &str) -> Result<(RequestId, Request), Unread> {
    let without_id = |code, message: String| Unread {
        id: None,
        problem: Problem::new(code, message),
    };
    let value: Value =
        serde_json::from_str(text).map_err(|error| without_id(Code::BadJson, format!("not JSON: {error}")))?;
    let Value::Object(mut envelope) = value else {
        return Err(without_id(Code::BadMessage, "a message is an object".to_owned()));
    };
    let id = request_id(envelope.remove("id"));
    let request = match envelope.get("type") {
        Some(Value::String(kind)) if is_self_report(kind) => Err(Problem::new(
            Code::SelfReportForbidden,
            format!("{kind} is for the server to say: a call is connected when RTP has reached it"),
        )),
        Some(Value::String(kind)) => {
            // A message without a usable id could not be answered, so nothing is done for it.
            id.clone()
                .map(drop)
                .and_then(|()| request(kind, envelope.get("payload")))
        }
        Some(_) => Err(Problem::new(Code::BadMessage, "type: expected a string")),
        None => Err(Problem::new(Code::BadMessage, "type: is missing")),
    };
    match (id, request) {
        (Ok(id), Ok(request)) => Ok((id, request)),
        (id, Err(problem)) => Err(Unread { id: id.ok(), problem }),
        (Err(problem), Ok(_)) => Err(Unread { id: None, problem }),
    }
}

fn request_id(id: Option<Value>) -> Result<RequestId, Problem> {
    match id {
        Some(Value::String(text)) if text.chars().count() <= MAX_REQUEST_ID_CHARS => Ok(RequestId::Text(text)),
        Some(Value::Number(number)) => Ok(RequestId::Number(number)),
        None => Err(Problem::new(Code::BadMessage, "id: is missing")),
        Some(_) => Err(Problem::new(
            Code::BadMessage,
            format!("id: expected a number or a string of at most {MAX_REQUEST_ID_CHARS} characters"),
        )),
    }
}

fn request(kind: &str, payload: Option<&Value>) -> Result<Request, Problem> {
    let empty = Map::new();
    let payload = match payload {
        Some(Value::Object(payload)) => payload,
        None | Some(Value::Null) => &empty,
        Some(_) => return Err(Problem::new(Code::BadMessage, "payload: expected an object")),
    };
    let fields = Fields(payload);
    let call = |action| {
        Ok(Request::Call(CallRequest {
            call_id: fields.id("callId")?,
            action,
        }))
    };
    let media = |operation| {
        Ok(Request::Media(MediaRequest {
            call_id: fields.optional_id("callId")?,
            operation,
        }))
    };
    match kind {
        "call_request" => Ok(Request::CallRequest {
            otomo_id: fields.id("otomoId")?,
        }),
        "call_accept" => call(CallAction::Accept),
        "call_reject" => call(CallAction::Reject),
        "call_cancel" => call(CallAction::Cancel),
        "call_hangup" => call(CallAction::Hangup),
        "rtc_capabilities" => media(MediaOperation::Capabilities),
        "rtc_create_transport" => media(MediaOperation::CreateTransport(match fields.text("direction")? {
            "send" => Direction::Send,
            "recv" => Direction::Recv,
            _ => {
                return Err(Problem::new(
                    Code::BadMessage,
                    "payload.direction: expected send or recv",
                ));
            }
        })),
        "rtc_connect_transport" => media(MediaOperation::ConnectTransport {
            transport_id: fields.text("transportId")?.to_owned(),
            dtls_parameters: fields.object("dtlsParameters")?,
        }),
        "rtc_produce" => media(MediaOperation::Produce {
            transport_id: fields.text("transportId")?.to_owned(),
            kind: fields.text("kind")?.to_owned(),
            rtp_parameters: fields.object("rtpParameters")?,
        }),
        "rtc_consume" => media(MediaOperation::Consume {
            transport_id: fields.text("transportId")?.to_owned(),
            rtp_capabilities: fields.object("rtpCapabilities")?,
        }),
        "rtc_resume" => media(MediaOperation::Resume {
            consumer_id: fields.text("consumerId")?.to_owned(),
        }),
        _ => {
            let quoted: String = kind.chars().take(QUOTED_CHARS).collect();
            Err(Problem::new(
                Code::UnknownType,
                format!("there is no request {quoted:?}"),
            ))
        }
    }
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

#[derive(Serialize)]
struct Answer<'a, P> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<&'a RequestId>,
    payload: P,
}

#[derive(Serialize)]
struct ErrorPayload<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Message<'a, P> {
    #[serde(rename = "type")]
    kind: &'a str,
    payload: P,
}

/// The answer to a request.
pub fn response(id: &RequestId, payload: &Value) -> Utf8Bytes {
    write(&Answer {
        kind: "response",
        id: Some(id),
        payload,
    })
}

/// The answer to what went wrong.
pub fn error(id: Option<&RequestId>, problem: &Problem) -> Utf8Bytes {
    let payload = ErrorPayload {
        code: problem.code.as_str(),
        message: &problem.message,
    };
    write(&Answer {
        kind: "error",
        id,
        payload,
    })
}

/// A message of the server's own.
pub fn message(kind: &str, payload: impl Serialize) -> Utf8Bytes {
    write(&Message { kind, payload })
}

fn write(message: &impl Serialize) -> Utf8Bytes {
    match serde_json::to_string(message) {
        Ok(text) => text.into(),
        Err(error) => {
            // Nothing that is written here lacks a JSON form.
            tracing::error!(%error, "a message could not be written");
            Utf8Bytes::from_static(r#"{"type":"error","id":null,"payload":{"code":"internal","message":""}}"#)
        }
    }
}

#[cfg(test)]
mod tests;
