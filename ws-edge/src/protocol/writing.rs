//! Answers and messages of the server, written.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::problem::{Code, Problem};
use super::request::RequestId;

#[derive(Serialize)]
struct Answer<'a, P> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<&'a RequestId>,
    payload: P,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ErrorPayload<'a> {
    #[schemars(with = "Code")]
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
