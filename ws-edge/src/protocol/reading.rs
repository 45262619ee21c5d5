//! Text messages read into requests, or into what is wrong with them.

use contract::wire::command::Direction;
use contract::wire::rights::is_self_report;
use serde_json::{Map, Value};

use super::field::Fields;
use super::problem::{Code, Problem};
use super::request::{CallAction, CallRequest, MediaOperation, MediaRequest, Request, RequestId};

/// The longest `id` of a request, in characters.
const MAX_REQUEST_ID_CHARS: usize = 64;
/// How much of an unknown type is quoted back, in characters.
const QUOTED_CHARS: usize = 40;

/// A message that is no request, and the `id` of its error if it has a usable one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unread {
    /// To be answered with.
    pub id: Option<RequestId>,
    /// What is wrong.
    pub problem: Problem,
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
