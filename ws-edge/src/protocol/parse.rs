//! Parses text messages into requests.

use contract::CallId;
use contract::wire::payload;
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
    /// Why the message is no request.
    pub problem: Problem,
}

/// The outer part of a request.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// Its `id`, or why that cannot be used.
    pub(crate) id: Result<RequestId, Problem>,
    kind: Option<Value>,
    payload: Option<Value>,
}

impl Envelope {
    /// Reads a text message.
    ///
    /// # Errors
    /// It is not an object in JSON.
    pub(crate) fn read(text: &str) -> Result<Self, Problem> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| Problem::new(Code::BadJson, format!("not JSON: {error}")))?;
        let Value::Object(mut envelope) = value else {
            return Err(Problem::new(Code::BadMessage, "a message is an object"));
        };
        Ok(Self {
            id: request_id(envelope.remove("id")),
            kind: envelope.remove("type"),
            payload: envelope.remove("payload"),
        })
    }

    /// Reads the request with `read`, which is given its type and its payload, an object.
    ///
    /// # Errors
    /// [`Unread`]: what to answer instead.
    pub(crate) fn request<T>(
        self,
        read: impl FnOnce(&str, Value) -> Result<T, Problem>,
    ) -> Result<(RequestId, T), Unread> {
        let Self { id, kind, payload } = self;
        let request = match kind {
            Some(Value::String(kind)) if is_self_report(&kind) => Err(Problem::new(
                Code::SelfReportForbidden,
                format!(
                    "{} is for the server to say: a call is connected when RTP has reached it",
                    quoted(&kind)
                ),
            )),
            // A message without a usable id could not be answered, so nothing is done for it.
            Some(Value::String(kind)) => id.clone().and_then(|_| match payload {
                Some(payload @ Value::Object(_)) => read(&kind, payload),
                None | Some(Value::Null) => read(&kind, Value::Object(Map::new())),
                Some(_) => Err(Problem::new(Code::BadMessage, "payload: expected an object")),
            }),
            Some(_) => Err(Problem::new(Code::BadMessage, "type: expected a string")),
            None => Err(Problem::new(Code::BadMessage, "type: is missing")),
        };
        match (id, request) {
            (Ok(id), Ok(request)) => Ok((id, request)),
            (id, Err(problem)) => Err(Unread { id: id.ok(), problem }),
            (Err(problem), Ok(_)) => Err(Unread { id: None, problem }),
        }
    }
}

/// Reads a text message of a party.
///
/// # Errors
/// [`Unread`]: what to answer instead.
pub fn parse(text: &str) -> Result<(RequestId, Request), Unread> {
    let envelope = Envelope::read(text).map_err(|problem| Unread { id: None, problem })?;
    envelope.request(request)
}

/// The usable `id` of a message that is not carried out.
pub(crate) fn id_of(text: &str) -> Option<RequestId> {
    Envelope::read(text).ok()?.id.ok()
}

/// The problem of a request of an unknown type.
pub(crate) fn unknown_type(kind: &str) -> Problem {
    Problem::new(Code::UnknownType, format!("there is no request {}", quoted(kind)))
}

/// The `id` of a request. An integer beyond 64 bits, or a fraction, would come back as another number.
fn request_id(id: Option<Value>) -> Result<RequestId, Problem> {
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

fn request(kind: &str, payload: Value) -> Result<Request, Problem> {
    let is_signalling = SignallingRequest::VARIANTS.contains(&kind);
    let is_of_socket = SocketRequest::VARIANTS.contains(&kind);
    if !is_signalling && !is_of_socket && !RtcRequest::VARIANTS.contains(&kind) {
        return Err(unknown_type(kind));
    }
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
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
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
        let reason = payload::without_type_names(&reason);
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        Problem::new(code, format!("{field}: {reason}"))
    })
}
