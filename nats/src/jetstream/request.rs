//! Requests, replies and refusals of a [`crate::wire::command`].

use std::time::Duration;

use async_nats::client::RequestError;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};
use thiserror::Error;

use crate::spans;
use crate::wire::command::{Command, MAX_COMMAND_BYTES};
use crate::wire::envelope::{TRACEPARENT, TraceParent};
use crate::wire::payload;

const ERROR_HEADER: &str = "Nats-Service-Error";
const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// The longest message of a refusal, in characters. It may quote what was sent, and is sent back twice: NATS disconnects the sender of a
/// reply that is longer than `max_payload`.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why a command was refused. WebSocket clients receive the same codes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, EnumString, IntoStaticStr, VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RefusalCode {
    /// The payload cannot be decoded.
    BadRequest,
    /// WebRTC parameters that mediasoup rejects.
    InvalidParameters,
    /// Not audio.
    AudioOnly,
    /// The requester is not a party of the call.
    NotAParty,
    /// The worker has no such call.
    UnknownCall,
    /// No such transport of this party.
    UnknownTransport,
    /// No such consumer of this party.
    UnknownConsumer,
    /// The peer has no producer yet; `rtc_new_producer` announces it.
    NoProducer,
    /// This party already has a producer.
    AlreadyProducing,
    /// The client's capabilities do not fit the peer's producer.
    CannotConsume,
    /// The duration of a grant is not one that can be granted.
    InvalidGrant,
    /// The state of the call does not allow this.
    WrongState,
    /// The worker has reached its capacity.
    AtCapacity,
    /// The worker shuts down.
    Draining,
    /// A failure of the service, not of the requester.
    Internal,
}

impl RefusalCode {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The error code of the service API: an HTTP status.
    fn status(self) -> usize {
        match self {
            Self::BadRequest | Self::InvalidParameters | Self::AudioOnly | Self::InvalidGrant => 400,
            Self::NotAParty => 403,
            Self::UnknownCall | Self::UnknownTransport | Self::UnknownConsumer | Self::NoProducer => 404,
            Self::AlreadyProducing | Self::CannotConsume | Self::WrongState => 409,
            Self::AtCapacity | Self::Draining => 503,
            Self::Internal => 500,
        }
    }
}

/// The refusal of a command, `{"code", "message"}` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// The message is cut to [`MAX_MESSAGE_CHARS`], and made [`payload::printable`], because it is sent in a header.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let characters = message.chars().take(MAX_MESSAGE_CHARS);
        let message = characters.map(payload::printable).collect();
        Self { code, message }
    }

    /// The refusal as a reply: the headers of the service API, and the JSON body.
    pub fn reply(&self) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_HEADER, self.to_string());
        headers.insert(ERROR_CODE_HEADER, self.code.status().to_string());
        (headers, serde_json::to_vec(self).unwrap_or_default().into())
    }

    fn from_header(text: &str) -> Self {
        let (code, message) = text.split_once(": ").unwrap_or(("internal", text));
        let code = code.parse().unwrap_or(RefusalCode::Internal);
        Self::new(code, message)
    }
}

/// Why a command has no reply.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The service refused. A retry helps only after its state has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The service is dead or cut off.
    #[error("no reply on {subject}: {error}")]
    Unreachable {
        /// The subject of the request.
        subject: String,
        /// The error of NATS.
        error: RequestError,
    },
    /// The reply cannot be decoded: the versions are incompatible.
    #[error("the reply on {subject} cannot be decoded: {error}")]
    Undecodable {
        /// The subject of the request.
        subject: String,
        /// The error of the decoder.
        error: serde_json::Error,
    },
}

/// Sends a command to `recipient`, and waits at most `timeout` for the reply. `trace` is its parent, unless there is a current span.
///
/// # Errors
/// [`CommandError`]
pub async fn ask<C: Command>(
    client: &Client,
    recipient: &C::Recipient,
    command: &C,
    trace: TraceParent,
    timeout: Duration,
) -> Result<C::Reply, CommandError> {
    let subject = command.subject(recipient);
    let body = serde_json::to_vec(command).map_err(|error| {
        Refusal::new(
            RefusalCode::BadRequest,
            format!("the command has no JSON form: {error}"),
        )
    })?;
    // Encoding may lengthen what a client has sent: `1e9` becomes `1000000000.0`.
    if body.len() > MAX_COMMAND_BYTES {
        let length = body.len();
        let message =
            format!("the request has {length} bytes when it is encoded, a command has at most {MAX_COMMAND_BYTES}");
        return Err(Refusal::new(RefusalCode::BadRequest, message).into());
    }
    let mut headers = HeaderMap::new();
    let trace = spans::current().unwrap_or(trace);
    headers.insert(TRACEPARENT, trace.to_string());
    let request = async_nats::Request::new()
        .headers(headers)
        .payload(body.into())
        .timeout(Some(timeout));
    let reply = match client.send_request(subject.clone(), request).await {
        Ok(reply) => reply,
        Err(error) => return Err(CommandError::Unreachable { subject, error }),
    };
    if let Some(error) = reply.headers.as_ref().and_then(|headers| headers.get(ERROR_HEADER)) {
        return Err(Refusal::from_header(error.as_str()).into());
    }
    payload::decode(&reply.payload).map_err(|error| CommandError::Undecodable { subject, error })
}

/// Replies to a request that did not come through the service API; see [`Refusal::reply`] for those that did.
pub async fn reply<R: Serialize>(client: &Client, message: &async_nats::Message, outcome: &Result<R, Refusal>) {
    let Some(subject) = message.reply.clone() else {
        return;
    };
    let (headers, payload) = match outcome {
        Ok(reply) => (HeaderMap::new(), serde_json::to_vec(reply).unwrap_or_default().into()),
        Err(refusal) => refusal.reply(),
    };
    if let Err(error) = client.publish_with_headers(subject, headers, payload).await {
        tracing::warn!(subject = %message.subject, %error, "a reply was not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_header() {
        let refusal = Refusal::new(RefusalCode::UnknownCall, "call: none\r\nhere");
        assert_eq!(refusal.message, "call: none  here");
        assert_eq!(Refusal::from_header(&refusal.to_string()), refusal);
        let long = Refusal::new(RefusalCode::BadRequest, "x".repeat(100_000));
        assert_eq!(long.message.len(), MAX_MESSAGE_CHARS);
        assert_eq!(Refusal::from_header("what is this").code, RefusalCode::Internal);
        assert_eq!(
            Refusal::from_header("unheard_of: what is this").code,
            RefusalCode::Internal
        );
    }

    #[test]
    fn codes_are_written_as_they_are_serialised() {
        for code in [RefusalCode::BadRequest, RefusalCode::NotAParty, RefusalCode::AtCapacity] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.as_str().parse(), Ok(code));
        }
    }
}
