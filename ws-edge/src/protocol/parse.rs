//! Parses text messages into requests.

use contract::CallId;
use contract::wire::request::{InCall, Request, RtcRequest, SignallingRequest, SocketRequest};
use contract::wire::rights::is_self_report;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use strum::VariantNames;

use super::envelope::RequestId;
use super::problem::{Code, Problem};

/// The longest `id` of a request, in characters.
const MAX_REQUEST_ID_CHARS: usize = 64;
/// How much of an unknown type is quoted back, in characters.
const QUOTED_CHARS: usize = 40;
/// The longest description of a field that cannot be read, in characters: serde quotes what was sent.
const MAX_REASON_CHARS: usize = 200;

/// A message that is no request, and the `id` of its error if it has a usable one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unread {
    /// The `id` of the error, if the message has a usable one.
    pub id: Option<RequestId>,
    /// The error.
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
    let request = match envelope.remove("type") {
        Some(Value::String(kind)) if is_self_report(&kind) => Err(Problem::new(
            Code::SelfReportForbidden,
            format!(
                "{} is for the server to say: a call is connected when RTP has reached it",
                quoted(&kind)
            ),
        )),
        // A message without a usable id could not be answered, so nothing is done for it.
        Some(Value::String(kind)) => id.clone().and_then(|_| request(&kind, envelope.remove("payload"))),
        Some(_) => Err(Problem::new(Code::BadMessage, "type: expected a string")),
        None => Err(Problem::new(Code::BadMessage, "type: is missing")),
    };
    match (id, request) {
        (Ok(id), Ok(request)) => Ok((id, request)),
        (id, Err(problem)) => Err(Unread { id: id.ok(), problem }),
        (Err(problem), Ok(_)) => Err(Unread { id: None, problem }),
    }
}

/// The `id` of a request. An integer beyond 64 bits, or a fraction, would come back as another number.
pub(crate) fn request_id(id: Option<Value>) -> Result<RequestId, Problem> {
    match id {
        Some(Value::String(text)) if text.chars().count() <= MAX_REQUEST_ID_CHARS => Ok(RequestId::Text(text)),
        Some(Value::Number(number)) if !number.is_f64() => Ok(RequestId::Number(number)),
        None => Err(Problem::new(Code::BadMessage, "id: is missing")),
        Some(_) => Err(Problem::new(
            Code::BadMessage,
            format!("id: expected an integer of 64 bits or a string of at most {MAX_REQUEST_ID_CHARS} characters"),
        )),
    }
}

fn request(kind: &str, payload: Option<Value>) -> Result<Request, Problem> {
    let is_signalling = SignallingRequest::VARIANTS.contains(&kind);
    let is_of_socket = SocketRequest::VARIANTS.contains(&kind);
    if !is_signalling && !is_of_socket && !RtcRequest::VARIANTS.contains(&kind) {
        return Err(Problem::new(
            Code::UnknownType,
            format!("there is no request {}", quoted(kind)),
        ));
    }
    let payload = match payload {
        Some(payload @ Value::Object(_)) => payload,
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(_) => return Err(Problem::new(Code::BadMessage, "payload: expected an object")),
    };
    // As serde represents a variant.
    let variant = Value::from_iter([(kind, payload)]);
    if is_of_socket {
        return read(&variant).map(Request::Socket);
    }
    if is_signalling {
        return read(&variant).map(Request::Signalling);
    }
    let request: RtcRequest = read(&variant)?;
    let OptionalCall { call_id } = read(variant.get(kind).unwrap_or(&Value::Null))?;
    Ok(Request::Rtc(InCall { call_id, request }))
}

/// A client's text as it may be quoted and logged: short, and with its control characters escaped.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(QUOTED_CHARS).collect();
    format!("{start:?}")
}

/// The call of an RTC request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptionalCall {
    call_id: Option<CallId>,
}

/// Reads a payload. The error names the field.
fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut field = "payload".to_owned();
        let mut found = Some(value);
        for segment in error.path() {
            let key = segment.to_string();
            found = found.and_then(|value| value.get(&key));
            // The variant is the request's type.
            if !matches!(segment, Segment::Enum { .. }) {
                field = format!("{field}.{key}");
            }
        }
        let reason = error.inner().to_string();
        // A string that is no identifier has a code of its own, for every kind of identifier.
        let invalid_id = found
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<CallId>().err());
        let code = match invalid_id {
            Some(invalid) if invalid.to_string() == reason => Code::InvalidId,
            _ => Code::BadMessage,
        };
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        Problem::new(code, format!("{field}: {reason}"))
    })
}
