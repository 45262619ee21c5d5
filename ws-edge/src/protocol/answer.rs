//! What the answers about calls say. Those about media are the media-worker's replies, passed on.

use contract::{CallId, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// To `call_request`: it rings.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRequested<'a> {
    /// The call.
    pub call_id: &'a CallId,
    /// When it stops ringing.
    pub expires_at: Timestamp,
}

/// To `call_accept`: the call is the otomo's, media may be set up.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallTaken<'a> {
    /// The call.
    pub call_id: &'a CallId,
    /// When it was taken.
    pub accepted_at: Timestamp,
}

/// To `call_reject`, `call_cancel` and `call_hangup`: the call is over.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallOver<'a> {
    /// The call.
    pub call_id: &'a CallId,
    /// When it was over.
    pub ended_at: Timestamp,
}

/// As the payload of a response.
pub fn payload(answer: impl Serialize) -> Value {
    // Nothing that is answered lacks a JSON form.
    serde_json::to_value(answer).unwrap_or_default()
}
