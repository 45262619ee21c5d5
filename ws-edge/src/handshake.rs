//! Authentication of a request before its upgrade to a WebSocket (RFC 6455 section 4.2).
//!
//! Each kind of [`Principal`] has its [`Endpoint`]; the endpoints differ only in the role that the token must have.
//!
//! The token comes in `Authorization: Bearer …` or, because browsers cannot set that header, as a subprotocol:
//! `Sec-WebSocket-Protocol: callpulse.v1, bearer.<token>`. Never in the URL, which ends up in logs.
//!
//! Rejections use HTTP status codes. Browsers hide HTTP errors from scripts; clients that offer `callpulse.v1` therefore get a
//! WebSocket close code ([`CloseResponse`]): 4401, 4403, or 1013 (retry).

mod rejection;
pub mod token;
mod upgrade;

use std::sync::Arc;

use contract::Party;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub use rejection::{CloseResponse, Rejection};

use crate::addresses::origin;
use crate::handshake::token::{Operator, TokenError, Tokens, Verified};

/// The path of the parties' WebSocket.
pub const PATH: &str = "/ws";
/// The path of the operators' WebSocket.
pub const OPS_PATH: &str = "/ops/live";
/// The only subprotocol.
pub const SUBPROTOCOL: &str = "callpulse.v1";
/// The prefix of a subprotocol that carries a token.
const TOKEN_PREFIX: &str = "bearer.";
/// Query parameters that commonly carry tokens.
const TOKEN_KEYS: [&str; 5] = ["access_token", "authorization", "bearer", "jwt", "token"];

/// A WebSocket endpoint, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// [`PATH`]: the parties of calls.
    Party,
    /// [`OPS_PATH`]: operators, with read access to every call.
    Ops,
}

impl Endpoint {
    /// The endpoint at a path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            PATH => Some(Self::Party),
            OPS_PATH => Some(Self::Ops),
            _ => None,
        }
    }
}

/// The authenticated owner of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user or an otomo.
    Party(Party),
    /// An operator.
    Operator(Operator),
}

/// Decides which requests may be upgraded.
pub struct Authenticator {
    tokens: Arc<Tokens>,
    allowed_origins: Vec<String>,
}

/// A request that may be upgraded.
pub struct Admission {
    /// The owner of the socket, and how long it may stay open.
    pub principal: Verified<Principal>,
    /// The response that switches protocols.
    pub response: Response<Full<Bytes>>,
}

impl Authenticator {
    /// Accepts tokens that `tokens` verifies, and pages of `allowed_origins` and of this host.
    pub fn new(tokens: Arc<Tokens>, allowed_origins: Vec<String>) -> Self {
        let normalised = allowed_origins.iter().filter_map(|origin| origin::normalised(origin));
        Self {
            tokens,
            allowed_origins: normalised.collect(),
        }
    }

    /// Authenticates a request for an upgrade.
    ///
    /// # Errors
    /// [`Rejection`]
    pub fn authenticate<B: Body>(&self, request: &Request<B>) -> Result<Admission, Rejection> {
        let headers = request.headers();
        let endpoint = Endpoint::at(request.uri().path()).ok_or_else(|| {
            let message = format!("the WebSocket is at {PATH}");
            Rejection::new(StatusCode::NOT_FOUND, "not_found", message)
        })?;
        if request.method() != Method::GET {
            return Err(Rejection::method_not_allowed("GET"));
        }
        if has_token(request.uri()) {
            return Err(Rejection::token_in_url("use Authorization, or a subprotocol"));
        }
        let host = service::http::authority(request).map_err(Rejection::bad_request)?;
        let mut response = upgrade::accept(request)?;
        self.check_origin(headers, host.as_ref())?;
        let offered = Subprotocols::of(headers);
        let principal = self.principal(endpoint, headers, &offered)?;
        if offered.ours {
            select_subprotocol(&mut response);
        } else if offered.any {
            // A browser silently drops a connection that selects none of the offered subprotocols.
            let message = format!("the only subprotocol is {SUBPROTOCOL}");
            return Err(Rejection::new(
                StatusCode::BAD_REQUEST,
                "subprotocol_unsupported",
                message,
            ));
        }
        Ok(Admission { principal, response })
    }

    fn check_origin(&self, headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Rejection> {
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let origin = origin.to_str().unwrap_or_default();
        let own = host.is_some_and(|host| {
            ["https://", "http://"]
                .iter()
                .any(|scheme| origin.strip_prefix(scheme) == Some(host.as_str()))
        });
        let allowed = origin::normalised(origin).is_some_and(|origin| self.allowed_origins.contains(&origin));
        if own || allowed {
            Ok(())
        } else {
            Err(Rejection::new(
                StatusCode::FORBIDDEN,
                "origin_forbidden",
                "pages of this origin may not connect: it is not among the node's allowed_origins",
            ))
        }
    }

    fn principal(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        offered: &Subprotocols,
    ) -> Result<Verified<Principal>, Rejection> {
        let refused = |code, message: String| {
            Rejection::new(StatusCode::UNAUTHORIZED, code, message).with(WWW_AUTHENTICATE, "Bearer")
        };
        let given = offered.tokens + usize::from(bearer(headers).is_some());
        if given > 1 {
            return Err(Rejection::bad_request(
                "more than one token: which one counts is not defined",
            ));
        }
        let token = bearer(headers).or(offered.token);
        let token = token.ok_or_else(|| {
            let message = format!("send Authorization: Bearer …, or the subprotocols {SUBPROTOCOL}, {TOKEN_PREFIX}…");
            refused("token_missing", message)
        })?;
        let verified = match endpoint {
            Endpoint::Party => self.tokens.verify(token).map(|party| party.map(Principal::Party)),
            Endpoint::Ops => {
                let verified = self.tokens.verify_operator(token);
                verified.map(|operator| operator.map(Principal::Operator))
            }
        };
        verified.map_err(|error| {
            if let TokenError::Invalid(reason) = &error {
                tracing::info!(reason, "token refused: check its issuer");
            }
            match &error {
                TokenError::OtherRole => Rejection::new(StatusCode::FORBIDDEN, error.code(), error.to_string()),
                TokenError::NoKeys => Rejection::unavailable(&error.to_string()),
                TokenError::Expired | TokenError::Claim(_) | TokenError::Invalid(_) => {
                    refused(error.code(), error.to_string())
                }
            }
        })
    }
}

/// Selects our subprotocol.
fn select_subprotocol(response: &mut Response<Full<Bytes>>) {
    let ours = HeaderValue::from_static(SUBPROTOCOL);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, ours);
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the query has a parameter that commonly carries a token.
pub(crate) fn has_token(uri: &Uri) -> bool {
    let mut parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    parameters.any(|(key, _)| TOKEN_KEYS.iter().any(|token| key.eq_ignore_ascii_case(token)))
}

#[derive(Default)]
struct Subprotocols<'a> {
    any: bool,
    ours: bool,
    token: Option<&'a str>,
    tokens: usize,
}

impl<'a> Subprotocols<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut offered = Self::default();
        let values = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        for name in values.flat_map(|value| value.split(',')).map(str::trim) {
            offered.any = true;
            offered.ours |= name == SUBPROTOCOL;
            if let Some(token) = name.strip_prefix(TOKEN_PREFIX) {
                offered.token = Some(token);
                offered.tokens += 1;
            }
        }
        offered
    }
}

impl Rejection {
    /// As a close, for clients that offer the subprotocol and cannot set `Authorization`. `None` for other clients, and for
    /// errors that only a client's developer meets: those get an HTTP status.
    pub fn close_response<B: Body>(&self, request: &Request<B>) -> Option<CloseResponse> {
        let code = match self.status {
            StatusCode::UNAUTHORIZED => CloseCode::Library(4401),
            StatusCode::FORBIDDEN => CloseCode::Library(4403),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => CloseCode::Again,
            _ => return None,
        };
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) || !Subprotocols::of(headers).ours {
            return None;
        }
        Endpoint::at(request.uri().path())?;
        let mut response = upgrade::accept(request).ok()?;
        select_subprotocol(&mut response);
        Some(CloseResponse {
            response,
            frame: CloseFrame {
                code,
                reason: Utf8Bytes::from_static(self.code),
            },
        })
    }
}

#[cfg(test)]
mod tests;
