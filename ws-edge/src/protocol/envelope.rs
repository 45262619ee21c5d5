//! Messages of the server: responses, errors and messages of its own.

use contract::{CallId, Role};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Number, Value};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::problem::{Code, Problem};

/// The identifier that a client gives its request, and that the answer repeats.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RequestId {
    /// A text of at most 64 characters.
    Text(String),
    /// A number.
    Number(Number),
}

#[derive(Serialize)]
struct Answer<'a, P> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<&'a RequestId>,
    payload: P,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorPayload<'a> {
    code: Code,
    message: &'a str,
    /// Of `call_denied`: the wallet's reason, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Of `rate_limited` in answer to `call_request`: when the request would be within the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// With `busy`: the party that is in another call.
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<Role>,
    /// Of `wrong_state` in answer to a repeated `call_request`: its call, which is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a CallId>,
}

#[derive(Serialize)]
struct Message<'a, P> {
    #[serde(rename = "type")]
    kind: &'a str,
    payload: P,
}

/// The payload of a response.
pub fn payload(response: impl Serialize) -> Value {
    // Every response has a JSON form.
    serde_json::to_value(response).unwrap_or_default()
}

/// The answer to a request.
pub fn response(id: &RequestId, payload: &Value) -> Utf8Bytes {
    write(&Answer {
        kind: "response",
        id: Some(id),
        payload,
    })
}

/// The error that answers a request, or a message that is not one.
pub fn error(id: Option<&RequestId>, problem: &Problem) -> Utf8Bytes {
    let payload = ErrorPayload {
        code: problem.code,
        message: &problem.message,
        reason: problem.reason.as_deref(),
        retry_after_ms: problem.retry_after_ms,
        side: problem.side,
        call_id: problem.call_id.as_ref(),
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
            // Every message has a JSON form.
            tracing::error!(%error, "message not encoded: report this as a bug");
            Utf8Bytes::from_static(r#"{"type":"error","id":null,"payload":{"code":"internal","message":""}}"#)
        }
    }
}
