//! JSON Web Tokens, valid and invalid.

use std::time::Duration;

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// The secret that tests and the demo give to ws-edge.
pub const SECRET: &str = "only-for-tests-and-the-demo-on-this-machine";
/// The audience that tests and the demo give to ws-edge.
pub const AUDIENCE: &str = "callpulse";

const LIFETIME: Duration = Duration::from_secs(3600);

/// The claim `role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The paying caller.
    User,
    /// The paid companion.
    Otomo,
}

impl Role {
    /// As in the claim `role`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Otomo => "otomo",
        }
    }
}

/// A defect of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenDefect {
    /// Expired an hour ago, beyond any leeway.
    Expired,
    /// Valid from an hour from now on (`nbf`).
    NotYetValid,
    /// No `exp`.
    WithoutExpiry,
    /// Another `aud`.
    WrongAudience,
    /// No `aud`.
    WithoutAudience,
    /// Signed with another secret.
    WrongKey,
    /// The right secret, another algorithm (HS512).
    WrongAlgorithm,
    /// `alg: none` and no signature.
    Unsigned,
    /// `role: admin`, which does not exist.
    UnknownRole,
    /// A subject with NATS wildcards: `user.>`.
    SubjectInjection,
    /// Not a token.
    Garbage,
}

impl TokenDefect {
    /// All defects.
    pub const ALL: [Self; 11] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WithoutExpiry,
        Self::WrongAudience,
        Self::WithoutAudience,
        Self::WrongKey,
        Self::WrongAlgorithm,
        Self::Unsigned,
        Self::UnknownRole,
        Self::SubjectInjection,
        Self::Garbage,
    ];
}

/// A token that ws-edge must accept.
///
/// # Errors
/// When signing fails.
pub fn valid(role: Role, subject: &str) -> Result<String> {
    valid_for(role, subject, LIFETIME)
}

/// Like [`valid`], with a lifetime.
///
/// # Errors
/// When signing fails.
pub fn valid_for(role: Role, subject: &str, lifetime: Duration) -> Result<String> {
    sign(&claims(role, subject, lifetime), Algorithm::HS256, SECRET)
}

/// A token of an operator.
///
/// # Errors
/// When signing fails.
pub fn operator(name: &str, lifetime: Duration) -> Result<String> {
    let claims = with(claims(Role::User, name, lifetime), "role", json!("ops"));
    sign(&claims, Algorithm::HS256, SECRET)
}

/// A token that ws-edge must refuse.
///
/// # Errors
/// When signing fails.
pub fn invalid(role: Role, subject: &str, defect: TokenDefect) -> Result<String> {
    let mut claims = claims(role, subject, LIFETIME);
    let hour = |hours: i64| json!(Utc::now().timestamp() + hours * 3600);
    match defect {
        TokenDefect::Expired => claims = with(claims, "exp", hour(-1)),
        TokenDefect::NotYetValid => claims = with(claims, "nbf", hour(1)),
        TokenDefect::WithoutExpiry => claims = without(claims, "exp"),
        TokenDefect::WrongAudience => claims = with(claims, "aud", json!("another")),
        TokenDefect::WithoutAudience => claims = without(claims, "aud"),
        TokenDefect::UnknownRole => claims = with(claims, "role", json!("admin")),
        TokenDefect::SubjectInjection => claims = with(claims, "sub", json!("user.>")),
        TokenDefect::WrongKey => return sign(&claims, Algorithm::HS256, "another secret of the same great length"),
        TokenDefect::WrongAlgorithm => return sign(&claims, Algorithm::HS512, SECRET),
        TokenDefect::Unsigned => return Ok(unsigned(&claims)),
        TokenDefect::Garbage => return Ok("not.a.token".to_owned()),
    }
    sign(&claims, Algorithm::HS256, SECRET)
}

fn claims(role: Role, subject: &str, lifetime: Duration) -> Map<String, Value> {
    let expiry = (Utc::now() + lifetime).timestamp();
    let claims = [
        ("sub", json!(subject)),
        ("role", json!(role.as_str())),
        ("aud", json!(AUDIENCE)),
        ("exp", json!(expiry)),
    ];
    claims
        .into_iter()
        .map(|(claim, value)| (claim.to_owned(), value))
        .collect()
}

fn with(mut claims: Map<String, Value>, claim: &str, value: Value) -> Map<String, Value> {
    claims.insert(claim.to_owned(), value);
    claims
}

fn without(mut claims: Map<String, Value>, claim: &str) -> Map<String, Value> {
    claims.remove(claim);
    claims
}

fn sign(claims: &Map<String, Value>, algorithm: Algorithm, secret: &str) -> Result<String> {
    Ok(jsonwebtoken::encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )?)
}

fn unsigned(claims: &Map<String, Value>) -> String {
    let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.",
        encode(json!({ "alg": "none", "typ": "JWT" })),
        encode(json!(claims))
    )
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn verify(token: &str) -> Option<Value> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.validate_nbf = true;
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::decode::<Value>(token, &key, &validation)
            .ok()
            .map(|decoded| decoded.claims)
    }

    #[test]
    fn a_valid_token_is_accepted() {
        let claims = verify(&valid(Role::Otomo, "otomo_777").unwrap()).unwrap();
        assert_eq!(
            (&claims["sub"], &claims["role"]),
            (&json!("otomo_777"), &json!("otomo"))
        );
    }

    #[test]
    fn an_invalid_token_is_refused_or_has_an_invalid_claim() {
        for defect in TokenDefect::ALL {
            let claims = verify(&invalid(Role::User, "user_001", defect).unwrap());
            match defect {
                TokenDefect::UnknownRole => assert_eq!(claims.unwrap()["role"], "admin"),
                TokenDefect::SubjectInjection => assert_eq!(claims.unwrap()["sub"], "user.>"),
                _ => assert!(claims.is_none(), "{defect:?}"),
            }
        }
    }
}
