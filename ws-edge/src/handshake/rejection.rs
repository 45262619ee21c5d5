//! Why somebody may not come in, in the words that the client can read.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Entrance, Subprotocols, agree};

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    status: StatusCode,
    /// For programs; the label of its metric.
    pub code: &'static str,
    message: String,
    header: Option<(HeaderName, &'static str)>,
}

/// A rejection for a browser's scripts, which learn of a handshake that failed nothing but that it did: it succeeds, and
/// the socket is closed at once.
pub struct Farewell {
    /// What to answer before the protocol changes.
    pub response: Response<Full<Bytes>>,
    /// Why: 4401 and 4403 after the HTTP statuses, 1013 to try again; the reason is the rejection's code.
    pub frame: CloseFrame,
}

impl Rejection {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            header: None,
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// This node cannot serve anybody at the moment.
    pub fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).with(RETRY_AFTER, "1")
    }

    /// What may be done here is `allowed`.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("only {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).with(ALLOW, allowed)
    }

    /// A token stands where logs are written from.
    pub fn token_in_url(instead: &str) -> Self {
        let message = format!("a token does not belong into a URL: {instead}");
        Self::new(StatusCode::BAD_REQUEST, "token_in_url", message)
    }

    /// As HTTP.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let body = json!({ "code": self.code, "message": self.message }).to_string();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = &self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// As a close, for who offers the subprotocol and cannot set `Authorization`. None for everybody else, and for what no
    /// user of a finished client can bring about: those are told by HTTP.
    pub fn farewell<B>(&self, request: &Request<B>) -> Option<Farewell> {
        let code = match self.status {
            StatusCode::UNAUTHORIZED => CloseCode::Library(4401),
            StatusCode::FORBIDDEN => CloseCode::Library(4403),
            StatusCode::SERVICE_UNAVAILABLE => CloseCode::Again,
            _ => return None,
        };
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) || !Subprotocols::of(headers).ours {
            return None;
        }
        Entrance::at(request.uri().path())?;
        let mut response = create_response_with_body(request, Full::default).ok()?;
        agree(&mut response);
        Some(Farewell {
            response,
            frame: CloseFrame {
                code,
                reason: Utf8Bytes::from_static(self.code),
            },
        })
    }
}
