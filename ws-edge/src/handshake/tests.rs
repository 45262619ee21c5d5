use std::time::Duration;

use contract::Role;
use http_body_util::Empty;
use service::Secret;

use super::*;
use crate::handshake::token::{KeyRing, Minter};
use crate::settings::{JwtSettings, TokenAlgorithm};

fn settings() -> JwtSettings {
    JwtSettings {
        secret: Secret::new("s".repeat(32)),
        ..JwtSettings::default()
    }
}

fn tokens() -> Arc<Tokens> {
    let keys = KeyRing::with_secret(settings().secret.expose(), TokenAlgorithm::HS256).unwrap();
    Arc::new(Tokens::new(&settings(), keys))
}

fn token() -> String {
    Minter::new(&settings())
        .unwrap()
        .mint(&Party::new(Role::User, "user_001").unwrap(), Duration::from_secs(60))
        .unwrap()
}

fn upgrade(uri: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::builder()
        .uri(uri)
        .header("host", "call.example")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::<Bytes>::new()).unwrap()
}

fn admit(uri: &str, headers: &[(&str, &str)]) -> Result<Admission, Rejection> {
    Authenticator::new(tokens(), vec!["https://app.example".to_owned()]).authenticate(&upgrade(uri, headers))
}

fn refused(uri: &str, headers: &[(&str, &str)]) -> (u16, &'static str) {
    let rejection = admit(uri, headers).err().expect("should be refused");
    (rejection.response().status().as_u16(), rejection.code)
}

#[test]
fn a_bearer_token_is_accepted() {
    let admission = admit("/ws", &[("authorization", &format!("bearer {}", token()))]).unwrap();
    assert_eq!(
        admission.principal.owner,
        Principal::Party(Party::new(Role::User, "user_001").unwrap())
    );
    assert_eq!(admission.response.status(), StatusCode::SWITCHING_PROTOCOLS);
    // The example of RFC 6455 section 1.3.
    assert_eq!(
        admission.response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert!(!admission.response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
}

#[test]
fn a_browser_sends_its_token_as_a_subprotocol() {
    let offer = format!("callpulse.v1, bearer.{}", token());
    let admission = admit("/ws", &[("sec-websocket-protocol", &offer)]).unwrap();
    assert_eq!(admission.response.headers()[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
    let only_token = format!("bearer.{}", token());
    assert_eq!(
        refused("/ws", &[("sec-websocket-protocol", &only_token)]),
        (400, "subprotocol_unsupported")
    );
}

#[test]
fn a_missing_or_invalid_token_is_refused() {
    assert_eq!(refused("/ws", &[]), (401, "token_missing"));
    assert_eq!(
        refused("/ws", &[("authorization", "Basic abc")]),
        (401, "token_missing")
    );
    assert_eq!(
        refused("/ws", &[("authorization", "Bearer abc")]),
        (401, "token_invalid")
    );
}

#[test]
fn two_tokens_are_refused() {
    let (bearer, offer) = (
        format!("Bearer {}", token()),
        format!("callpulse.v1, bearer.{}", token()),
    );
    let two = format!("{offer}, bearer.{}", token());
    for headers in [
        &[("sec-websocket-protocol", two.as_str())][..],
        &[("authorization", &bearer), ("sec-websocket-protocol", &offer)],
    ] {
        assert_eq!(refused("/ws", headers), (400, "bad_request"));
    }
}

#[test]
fn a_token_in_the_url_is_refused_even_with_a_valid_bearer() {
    let good = format!("Bearer {}", token());
    for query in [
        "token=x",
        "a=b&access_token=x",
        "JWT=x",
        "token",
        "%74oken=x",
        "access%5Ftoken=x",
    ] {
        assert_eq!(
            refused(&format!("/ws?{query}"), &[("authorization", &good)]),
            (400, "token_in_url"),
            "{query}"
        );
    }
    assert!(admit("/ws?v=1", &[("authorization", &good)]).is_ok());
}

#[test]
fn origins_that_are_not_allowed_are_refused() {
    let good = format!("Bearer {}", token());
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://call.example", true),
        ("http://app.example", false),
        ("https://app.example.evil", false),
        ("https://evil.example", false),
        ("null", false),
    ] {
        let outcome = admit("/ws", &[("authorization", &good), ("origin", origin)]);
        assert_eq!(outcome.is_ok(), allowed, "{origin}");
    }
    assert_eq!(
        refused("/ws", &[("origin", "https://evil.example")]),
        (403, "origin_forbidden")
    );
}

#[test]
fn requests_that_are_no_websocket_handshake_are_refused() {
    let good = format!("Bearer {}", token());
    assert_eq!(refused("/other", &[("authorization", &good)]), (404, "not_found"));
    let authenticator = Authenticator::new(tokens(), Vec::new());
    let plain = Request::builder()
        .uri("/ws")
        .header("authorization", &good)
        .body(Empty::<Bytes>::new())
        .unwrap();
    assert_eq!(authenticator.authenticate(&plain).err().unwrap().code, "bad_request");
    assert_eq!(
        refused("/ws", &[("sec-websocket-version", "13")]),
        (400, "bad_handshake")
    );
    let post = Request::builder()
        .method("POST")
        .uri("/ws")
        .body(Empty::<Bytes>::new())
        .unwrap();
    assert_eq!(
        authenticator.authenticate(&post).err().unwrap().code,
        "method_not_allowed"
    );
}

/// The close, if it is one, and the subprotocol that was agreed to.
fn close_response(rejection: &Rejection, request: &Request<Empty<Bytes>>) -> Option<(u16, String)> {
    let CloseResponse { response, frame } = rejection.close_response(request)?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
    assert_eq!(response.headers().len(), 4, "an upgrade, and nothing else");
    Some((frame.code.into(), frame.reason.as_str().to_owned()))
}

#[test]
fn a_browser_gets_its_rejection_as_a_close() {
    let authenticator = Authenticator::new(tokens(), Vec::new());
    let party = format!("callpulse.v1, bearer.{}", token());
    for (uri, headers, expected) in [
        (
            "/ws",
            vec![("sec-websocket-protocol", "callpulse.v1")],
            (4401, "token_missing"),
        ),
        (
            "/ws",
            vec![("sec-websocket-protocol", "callpulse.v1, bearer.abc")],
            (4401, "token_invalid"),
        ),
        (
            "/ops/live",
            vec![("sec-websocket-protocol", party.as_str())],
            (4403, "role_forbidden"),
        ),
        // The origin is checked first: a foreign page learns nothing about the token.
        (
            "/ws",
            vec![
                ("sec-websocket-protocol", party.as_str()),
                ("origin", "https://evil.example"),
            ],
            (4403, "origin_forbidden"),
        ),
    ] {
        let request = upgrade(uri, &headers);
        let rejection = authenticator.authenticate(&request).err().unwrap();
        let (code, reason) = close_response(&rejection, &request).unwrap();
        assert_eq!((code, reason.as_str()), expected);
    }
    let unavailable = Rejection::unavailable("words that stay here");
    let request = upgrade("/ws", &[("sec-websocket-protocol", party.as_str())]);
    assert_eq!(
        close_response(&unavailable, &request),
        Some((1013, "unavailable".to_owned()))
    );
}

#[test]
fn clients_that_can_read_http_statuses_get_one() {
    let refusal = Rejection::unavailable("no");
    for (uri, headers) in [
        ("/ws", vec![]),
        ("/ws", vec![("authorization", "Bearer abc")]),
        (
            "/ws",
            vec![
                ("authorization", "Bearer abc"),
                ("sec-websocket-protocol", "callpulse.v1"),
            ],
        ),
        ("/ws", vec![("sec-websocket-protocol", "bearer.abc")]),
        ("/elsewhere", vec![("sec-websocket-protocol", "callpulse.v1")]),
    ] {
        assert_eq!(
            close_response(&refusal, &upgrade(uri, &headers)),
            None,
            "{uri} {headers:?}"
        );
    }
    let browser = [("sec-websocket-protocol", "callpulse.v1")];
    let bad = Rejection::token_in_url("no");
    assert_eq!(close_response(&bad, &upgrade("/ws?token=x", &browser)), None);
    let plain = Request::builder().uri("/ws").header(browser[0].0, browser[0].1);
    assert_eq!(
        close_response(&refusal, &plain.body(Empty::<Bytes>::new()).unwrap()),
        None,
        "no upgrade"
    );
}
