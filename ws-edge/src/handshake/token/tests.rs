use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use service::Secret;

use super::*;
use crate::settings::TokenAlgorithm;

const SECRET: &str = "a secret for these tests that is long enough for every one of the algorithms";

fn settings() -> JwtSettings {
    JwtSettings {
        secret: Secret::new(SECRET),
        ..JwtSettings::default()
    }
}

fn tokens() -> Tokens {
    let keys = KeyRing::with_secret(SECRET, TokenAlgorithm::HS256).unwrap();
    Tokens::new(&settings(), keys)
}

fn now() -> i64 {
    Timestamp::now().as_millis() / 1000
}

fn signed_as(header: &Header, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn signed(algorithm: Algorithm, claims: &Value) -> String {
    signed_as(&Header::new(algorithm), claims)
}

fn claims(change: Value) -> Value {
    let mut claims = json!({ "sub": "user_001", "role": "user", "aud": "callpulse", "exp": now() + 60 });
    for (claim, value) in change.as_object().unwrap() {
        claims[claim] = value.clone();
    }
    claims
}

fn verify(change: Value) -> Result<Verified<Party>, TokenError> {
    tokens().verify(&signed(Algorithm::HS256, &claims(change)))
}

#[test]
fn a_minted_token_is_accepted() {
    let party = Party::new(Role::Otomo, "otomo_777").unwrap();
    let minter = Minter::new(&settings()).unwrap();
    let token = minter.mint(&party, Duration::from_secs(60)).unwrap();
    let verified = tokens().verify(&token).unwrap();
    assert_eq!(verified.owner, party);
    let (remaining, leeway) = (verified.remaining.as_secs(), settings().leeway_s);
    assert!((58 + leeway..=60 + leeway).contains(&remaining), "{remaining}");
    assert!(Minter::new(&JwtSettings::default()).is_err(), "no key");
}

#[test]
fn operators_are_no_parties_and_parties_no_operators() {
    let (tokens, minter) = (tokens(), Minter::new(&settings()).unwrap());
    let operator = Operator::new("alice").unwrap();
    let token = minter.mint_operator(&operator, Duration::from_secs(60)).unwrap();
    assert_eq!(
        tokens.verify_operator(&token).map(|verified| verified.owner),
        Ok(operator)
    );
    assert_eq!(tokens.verify(&token), Err(TokenError::OtherRole));
    for role in Role::BOTH {
        let party = Party::new(role, "alice").unwrap();
        let token = minter.mint(&party, Duration::from_secs(60)).unwrap();
        assert_eq!(tokens.verify_operator(&token), Err(TokenError::OtherRole));
    }
    let invalid = signed(Algorithm::HS256, &claims(json!({ "role": "ops", "sub": "a.b" })));
    assert_eq!(tokens.verify_operator(&invalid), Err(INVALID_SUB));
}

#[test]
fn several_audiences_may_include_ours() {
    assert!(verify(json!({ "aud": ["other", "callpulse"] })).is_ok());
    for other in [
        json!(["other"]),
        json!([]),
        json!("another-service"),
        json!("Callpulse"),
    ] {
        assert!(
            matches!(verify(json!({ "aud": other })), Err(TokenError::Claim(_))),
            "{other}"
        );
    }
}

#[test]
fn time_is_checked_with_seconds_of_leeway() {
    assert_eq!(verify(json!({ "exp": now() - 10 })), Err(TokenError::Expired));
    assert!(verify(json!({ "exp": now() - 1 })).is_ok());
    assert!(matches!(
        verify(json!({ "nbf": now() + 10 })),
        Err(TokenError::Claim(_))
    ));
    assert!(verify(json!({ "nbf": now() - 10 })).is_ok());
    assert!(verify(json!({ "nbf": now() + 1 })).is_ok());
}

#[test]
fn times_may_have_a_fraction() {
    let exp = now() as f64 + 60.25;
    let verified = verify(json!({ "exp": exp, "nbf": now() as f64 - 0.5 })).unwrap();
    assert_eq!(verified.expires_at.as_millis(), (exp * 1000.0) as i64);
    assert_eq!(verify(json!({ "exp": now() as f64 - 9.5 })), Err(TokenError::Expired));
    for exp in [-1.5, 0.0, -1e300] {
        assert_eq!(verify(json!({ "exp": exp })), Err(TokenError::Expired), "{exp}");
    }
}

#[test]
fn milliseconds_are_told_apart_from_seconds() {
    let millis = Timestamp::now().as_millis();
    for claim in ["exp", "nbf"] {
        let error = verify(json!({ claim: millis + 60_000 })).unwrap_err();
        assert_eq!(error.code(), "token_invalid");
        let message = error.to_string();
        assert!(message.contains(claim) && message.contains("milliseconds"), "{message}");
    }
    assert!(matches!(verify(json!({ "exp": 1e300 })), Err(TokenError::Claim(_))));
    // The year 2286.
    assert!(verify(json!({ "exp": 1e10 })).is_ok());
}

#[test]
fn missing_and_mistyped_claims_are_refused() {
    for change in [
        json!({ "role": "admin" }),
        json!({ "role": null }),
        json!({ "sub": "user.>" }),
        json!({ "sub": "" }),
        json!({ "sub": 7 }),
        json!({ "exp": "tomorrow" }),
        json!({ "exp": "1700000000" }),
        json!({ "exp": null }),
        json!({ "aud": null }),
        json!({ "aud": 7 }),
        json!({ "nbf": "yesterday" }),
    ] {
        let error = verify(change.clone()).unwrap_err();
        assert_eq!(error.code(), "token_invalid", "{change}: {error}");
    }
}

#[test]
fn the_algorithm_is_pinned() {
    let tokens = tokens();
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert!(tokens.verify(&signed(algorithm, &claims(json!({})))).is_err());
    }
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1In0.";
    for garbage in [unsigned, "", "a", "a.b", "a.b.c", "..", "\u{97f3}.b.c"] {
        assert!(tokens.verify(garbage).is_err(), "{garbage}");
    }
    let long = signed(
        Algorithm::HS256,
        &claims(json!({ "note": "x".repeat(MAX_TOKEN_BYTES) })),
    );
    assert_eq!(
        tokens.verify(&long),
        Err(TokenError::Invalid("longer than the limit".to_owned()))
    );
}

#[test]
fn an_unknown_extension_is_not_ignored() {
    for crit in [vec!["exp".to_owned()], vec!["b64".to_owned()], Vec::new()] {
        let mut header = Header::new(Algorithm::HS256);
        header.crit = Some(crit);
        let refused = tokens().verify(&signed_as(&header, &claims(json!({}))));
        assert!(matches!(refused, Err(TokenError::Invalid(reason)) if reason.starts_with("crit: ")));
    }
}

#[test]
fn the_logged_reason_of_a_refusal_is_short() {
    let long = "x".repeat(5_000);
    let header = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": long }).to_string());
    let of_stranger = tokens().verify(&format!("{header}.e30.AA"));
    for refused in [of_stranger, verify(json!({ "role": long }))] {
        assert!(
            matches!(&refused, Err(TokenError::Invalid(reason)) if reason.len() <= MAX_REASON_CHARS),
            "{refused:?}"
        );
    }
}

#[test]
fn a_key_without_a_name_takes_tokens_with_any() {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("2026-01".to_owned());
    assert!(tokens().verify(&signed_as(&header, &claims(json!({})))).is_ok());
}

#[test]
fn lifetimes_are_read() {
    assert_eq!(parse_lifetime("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(parse_lifetime("7d"), Ok(Duration::from_secs(604_800)));
    assert!(parse_lifetime("3650d").is_ok());
    for wrong in ["", "h", "1", "1w", "-1h", "1\u{97f3}", "99999999999h", "3651d"] {
        assert!(parse_lifetime(wrong).is_err(), "{wrong}");
    }
}
