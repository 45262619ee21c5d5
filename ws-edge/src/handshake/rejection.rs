//! Why a request is not upgraded, in a form that the client can read.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Why a request is not upgraded, or a page not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub(super) status: StatusCode,
    /// For programs; the label of its metric.
    pub code: &'static str,
    message: String,
    headers: Vec<(HeaderName, &'static str)>,
}

/// A rejection that a browser's scripts can read: the handshake succeeds, and the socket is closed at once.
pub struct CloseResponse {
    /// The response that switches protocols.
    pub response: Response<Full<Bytes>>,
    /// 4401 and 4403 for the HTTP statuses, 1013 for a retry; the reason is the rejection's code.
    pub frame: CloseFrame,
}

impl Rejection {
    /// The code of [`Rejection::unavailable`].
    pub const UNAVAILABLE: &str = "unavailable";

    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// This node cannot accept sockets at the moment.
    pub fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Self::UNAVAILABLE, message).with(RETRY_AFTER, "1")
    }

    /// The client's address has as many connections to this node as it may.
    pub fn address_full() -> Self {
        let message = "this address has too many connections to this node; close some";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "address_full", message).with(RETRY_AFTER, "1")
    }

    /// The path supports only the methods `allowed`.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("only {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).with(ALLOW, allowed)
    }

    /// The request violates HTTP.
    pub fn bad_request(problem: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", problem)
    }

    /// The URL carries a token, and URLs end up in logs.
    pub fn token_in_url(instead: &str) -> Self {
        let message = format!("a token does not belong into a URL: {instead}");
        Self::new(StatusCode::BAD_REQUEST, "token_in_url", message)
    }

    /// As an HTTP response.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let body = json!({ "code": self.code, "message": self.message }).to_string();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
