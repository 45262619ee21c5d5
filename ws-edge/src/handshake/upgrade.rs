//! The opening handshake as RFC 6455 section 4.2 has it: what a request must contain, and the response that accepts it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Rejection;

/// The only version of the protocol.
const VERSION: &str = "13";
/// The protocol's name in `Upgrade`.
const PROTOCOL: &str = "websocket";
/// The length of a decoded `Sec-WebSocket-Key`, in bytes.
const NONCE_BYTES: usize = 16;
/// Fields that a request has at most once. Of two, one would be believed here and the other by a proxy.
const SINGLE: [HeaderName; 4] = [AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION];
/// Clients may fill the unused bits of the last character with anything.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The response that switches protocols.
///
/// # Errors
/// 426 for another version of the protocol, 400 for anything else that is no opening handshake.
pub(super) fn accept<B: Body>(request: &Request<B>) -> Result<Response<Full<Bytes>>, Rejection> {
    let headers = request.headers();
    if let Some(field) = SINGLE.iter().find(|field| headers.get_all(*field).iter().count() > 1) {
        return Err(malformed(format!("{field}: is given more than once")));
    }
    if request.version() < Version::HTTP_11 {
        return Err(malformed("a handshake needs HTTP/1.1"));
    }
    if !lists(headers, &UPGRADE, PROTOCOL) {
        return Err(malformed("Upgrade: expected websocket"));
    }
    if !lists(headers, &CONNECTION, "upgrade") {
        return Err(malformed("Connection: expected Upgrade"));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != VERSION)
    {
        let message = format!("Sec-WebSocket-Version: the only version is {VERSION}");
        return Err(
            Rejection::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
                .with(UPGRADE, PROTOCOL)
                .with(SEC_WEBSOCKET_VERSION, VERSION),
        );
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| KEY.decode(key).is_ok_and(|nonce| nonce.len() == NONCE_BYTES));
    let key = key.ok_or_else(|| malformed("Sec-WebSocket-Key: expected 16 bytes in base64"))?;
    // Its bytes would be read as the first frames.
    if !request.body().is_end_stream() {
        return Err(malformed("a handshake has no body"));
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    if let Ok(accepted) = HeaderValue::try_from(derive_accept_key(key)) {
        fields.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    Ok(response)
}

fn malformed(message: impl Into<String>) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "bad_handshake", message)
}

/// Whether a field, in one line or several, lists a token (RFC 9110 section 5.6.1).
fn lists(headers: &HeaderMap, field: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(field).into_iter();
    let mut tokens = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn request(fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::builder().uri("/ws");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(Empty::new()).unwrap()
    }

    /// The good handshake, with other lines for one field.
    fn with(field: &str, lines: &[&str]) -> Result<(), (u16, &'static str)> {
        let kept = GOOD.iter().copied().filter(|(name, _)| *name != field);
        let fields: Vec<_> = kept.chain(lines.iter().map(|line| (field, *line))).collect();
        status(&request(&fields))
    }

    fn status<B: Body>(request: &Request<B>) -> Result<(), (u16, &'static str)> {
        match accept(request) {
            Ok(_) => Ok(()),
            Err(rejection) => Err((rejection.response().status().as_u16(), rejection.code)),
        }
    }

    const MALFORMED: Result<(), (u16, &str)> = Err((400, "bad_handshake"));

    #[test]
    fn the_response_is_that_of_the_rfc() {
        let response = accept(&request(GOOD)).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        // The example of RFC 6455 section 1.3.
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()[UPGRADE], "websocket");
        assert_eq!(response.headers()[CONNECTION], "Upgrade");
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64_and_given_once() {
        for lines in [
            &[] as &[&str],
            &[""],
            &["abc"],
            &["dGhlIHNhbXBsZSBub25jZQ"],
            &["dGhlIHNhbXBsZSBub25jZQ=="; 2],
            &["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA=="],
            &["dGhlIHNhbXBsZSBub25jZSE="],
            &["dGhlIHNhbXBsZSBub25j"],
            &["dGhlIHNhbXBsZSBub25jZ-=="],
            &["dGhlIHNhbXBsZSBub25jZQ==, AAAA"],
        ] {
            assert_eq!(with("sec-websocket-key", lines), MALFORMED, "{lines:?}");
        }
        assert_eq!(with("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAAAB=="]), Ok(()));
    }

    #[test]
    fn another_version_gets_426_and_two_versions_400() {
        for lines in [&[] as &[&str], &["8"], &["14"], &["13, 8"], &["x"], &[""]] {
            let outcome = with("sec-websocket-version", lines);
            assert_eq!(outcome, Err((426, "upgrade_required")), "{lines:?}");
        }
        assert_eq!(with("sec-websocket-version", &["13"; 2]), MALFORMED);
        assert_eq!(with("sec-websocket-version", &["13", "8"]), MALFORMED);
        let rejected = accept(&request(&[("connection", "upgrade"), ("upgrade", "websocket")])).unwrap_err();
        let response = rejected.response();
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[UPGRADE], "websocket");
    }

    #[test]
    fn lists_may_take_several_lines() {
        for lines in [
            &["keep-alive, Upgrade"] as &[&str],
            &["keep-alive", "UPGRADE"],
            &["upgrade,close"],
        ] {
            assert_eq!(with("connection", lines), Ok(()), "{lines:?}");
        }
        for lines in [&[] as &[&str], &["keep-alive"], &["upgrade2"], &["keep upgrade"]] {
            assert_eq!(with("connection", lines), MALFORMED, "{lines:?}");
        }
        for lines in [&["WebSocket"] as &[&str], &["h2c, websocket"], &["h2c", "websocket"]] {
            assert_eq!(with("upgrade", lines), Ok(()), "{lines:?}");
        }
        for lines in [&[] as &[&str], &["h2c"], &["websocket/2"]] {
            assert_eq!(with("upgrade", lines), MALFORMED, "{lines:?}");
        }
    }

    #[test]
    fn a_body_an_older_version_of_http_and_two_identities_are_refused() {
        let (parts, _) = request(GOOD).into_parts();
        assert_eq!(status(&Request::from_parts(parts, Full::<Bytes>::from("x"))), MALFORMED);
        let mut old = request(GOOD);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(status(&old), MALFORMED);
        assert_eq!(with("authorization", &["Bearer a", "Bearer b"]), MALFORMED);
        assert_eq!(with("origin", &["https://a.example"; 2]), MALFORMED);
    }
}
