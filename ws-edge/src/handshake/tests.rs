use std::time::Duration;

use contract::Role;
use service::Secret;

use super::*;
use crate::settings::JwtSettings;

fn tokens() -> Tokens {
    Tokens::new(&JwtSettings {
        secret: Secret::new("s".repeat(32)),
        ..JwtSettings::default()
    })
}

fn token() -> String {
    tokens()
        .mint(&Party::new(Role::User, "user_001").unwrap(), Duration::from_secs(60))
        .unwrap()
}

fn upgrade(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
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
    request.body(()).unwrap()
}

fn admit(uri: &str, headers: &[(&str, &str)]) -> Result<Admission, Rejection> {
    Door::new(tokens(), vec!["https://app.example".to_owned()]).admit(&upgrade(uri, headers))
}

fn refused(uri: &str, headers: &[(&str, &str)]) -> (u16, &'static str) {
    let rejection = admit(uri, headers).err().expect("should be refused");
    (rejection.response().status().as_u16(), rejection.code)
}

#[test]
fn a_bearer_is_let_in() {
    let admission = admit("/ws", &[("authorization", &format!("bearer {}", token()))]).unwrap();
    assert_eq!(
        admission.guest,
        Guest::Party(Party::new(Role::User, "user_001").unwrap())
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
fn a_browser_brings_its_token_as_a_subprotocol() {
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
fn nobody_comes_in_without_a_good_token() {
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
fn a_token_in_the_url_is_refused_even_beside_a_good_one() {
    let good = format!("Bearer {}", token());
    for query in ["token=x", "a=b&access_token=x", "JWT=x", "token"] {
        assert_eq!(
            refused(&format!("/ws?{query}"), &[("authorization", &good)]),
            (400, "token_in_url"),
            "{query}"
        );
    }
    assert!(admit("/ws?v=1", &[("authorization", &good)]).is_ok());
}

#[test]
fn pages_of_foreign_origins_are_refused() {
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
fn what_is_no_websocket_is_told_so() {
    let good = format!("Bearer {}", token());
    assert_eq!(refused("/other", &[("authorization", &good)]), (404, "not_found"));
    let door = Door::new(tokens(), Vec::new());
    let plain = Request::builder()
        .uri("/ws")
        .header("authorization", &good)
        .body(())
        .unwrap();
    assert_eq!(door.admit(&plain).err().unwrap().code, "upgrade_required");
    let post = Request::builder().method("POST").uri("/ws").body(()).unwrap();
    assert_eq!(door.admit(&post).err().unwrap().code, "method_not_allowed");
}

/// The close, if it is one, and the subprotocol that was agreed to.
fn farewell(rejection: &Rejection, request: &Request<()>) -> Option<(u16, String)> {
    let Farewell { response, frame } = rejection.farewell(request)?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
    assert_eq!(response.headers().len(), 4, "an upgrade, and nothing else");
    Some((frame.code.into(), frame.reason.as_str().to_owned()))
}

#[test]
fn a_browser_is_told_by_a_close() {
    let door = Door::new(tokens(), Vec::new());
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
        // Before the token is looked at: a foreign page learns nothing of it.
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
        let rejection = door.admit(&request).err().unwrap();
        let (code, reason) = farewell(&rejection, &request).unwrap();
        assert_eq!((code, reason.as_str()), expected);
    }
    let away = Rejection::unavailable("words that stay here");
    let request = upgrade("/ws", &[("sec-websocket-protocol", party.as_str())]);
    assert_eq!(farewell(&away, &request), Some((1013, "unavailable".to_owned())));
}

#[test]
fn whoever_can_read_http_is_told_by_http() {
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
        assert_eq!(farewell(&refusal, &upgrade(uri, &headers)), None, "{uri} {headers:?}");
    }
    let browser = [("sec-websocket-protocol", "callpulse.v1")];
    let bad = Rejection::token_in_url("no");
    assert_eq!(farewell(&bad, &upgrade("/ws?token=x", &browser)), None);
    let plain = Request::builder().uri("/ws").header(browser[0].0, browser[0].1);
    assert_eq!(farewell(&refusal, &plain.body(()).unwrap()), None, "no upgrade");
}
