//! JSON Web Tokens, valid and invalid.

use std::time::Duration;

use anyhow::{Result, bail};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::Utc;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};

pub use jsonwebtoken::Algorithm;

/// The secret that tests and the demo give to ws-edge.
pub const SECRET: &str = "only-for-tests-and-the-demo-on-this-machine";
/// The audience that tests and the demo give to ws-edge.
pub const AUDIENCE: &str = "callpulse";

/// Longer than the clock of an edge is off in any test.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

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
    /// `exp` in milliseconds.
    Milliseconds,
    /// `crit` names an extension that does not exist.
    UnknownExtension,
    /// Not a token.
    Garbage,
}

impl TokenDefect {
    /// All defects.
    pub const ALL: [Self; 13] = [
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
        Self::Milliseconds,
        Self::UnknownExtension,
        Self::Garbage,
    ];
}

/// A token that ws-edge must accept.
pub fn valid(role: Role, subject: &str) -> Result<String> {
    valid_for(role, subject, LIFETIME)
}

/// Like [`valid`], with a lifetime.
pub fn valid_for(role: Role, subject: &str, lifetime: Duration) -> Result<String> {
    sign(&claims(role, subject, lifetime), Algorithm::HS256, SECRET)
}

/// A token of an operator.
pub fn operator(name: &str, lifetime: Duration) -> Result<String> {
    let claims = with(claims(Role::User, name, lifetime), "role", json!("ops"));
    sign(&claims, Algorithm::HS256, SECRET)
}

/// A token that ws-edge must refuse.
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
        TokenDefect::Milliseconds => claims = with(claims, "exp", json!(Utc::now().timestamp_millis())),
        TokenDefect::UnknownExtension => {
            let mut header = Header::new(Algorithm::HS256);
            header.crit = Some(vec!["https://callpulse.example/unknown".to_owned()]);
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            return Ok(jsonwebtoken::encode(&header, &claims, &key)?);
        }
        TokenDefect::WrongKey => return sign(&claims, Algorithm::HS256, "another secret of the same great length"),
        TokenDefect::WrongAlgorithm => return sign(&claims, Algorithm::HS512, SECRET),
        TokenDefect::Unsigned => return Ok(unsigned(&claims)),
        TokenDefect::Garbage => return Ok("not.a.token".to_owned()),
    }
    sign(&claims, Algorithm::HS256, SECRET)
}

/// An issuer's key, whose public part ws-edge knows.
#[derive(Debug)]
pub struct Issuer {
    kid: String,
    algorithm: Algorithm,
    pair: KeyPair,
}

impl Issuer {
    /// A new key for RS256, ES256 or EdDSA.
    pub fn generate(kid: &str, algorithm: Algorithm) -> Result<Self> {
        let kind = match algorithm {
            Algorithm::RS256 => &rcgen::PKCS_RSA_SHA256,
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            other => bail!("no key for {other:?}"),
        };
        Ok(Self {
            kid: kid.to_owned(),
            algorithm,
            pair: KeyPair::generate_for(kind)?,
        })
    }

    /// Its public key in PEM.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// Its entry in a JWKS document.
    pub fn jwk(&self) -> Result<Value> {
        let public = self.public_pem();
        let public = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(public.as_bytes())?,
            Algorithm::ES256 => DecodingKey::from_ec_pem(public.as_bytes())?,
            _ => DecodingKey::from_ed_pem(public.as_bytes())?,
        };
        let mut jwk = Jwk::from_decoding_key(&public, Some(self.algorithm))?;
        jwk.common.key_id = Some(self.kid.clone());
        Ok(serde_json::to_value(jwk)?)
    }

    /// A token signed with this key.
    pub fn token(&self, role: Role, subject: &str) -> Result<String> {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.clone());
        let claims = claims(role, subject, LIFETIME);
        Ok(jsonwebtoken::encode(&header, &claims, &self.key()?)?)
    }

    fn key(&self) -> Result<EncodingKey> {
        let private = self.pair.serialize_pem();
        Ok(match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(private.as_bytes())?,
            Algorithm::ES256 => EncodingKey::from_ec_pem(private.as_bytes())?,
            _ => EncodingKey::from_ed_pem(private.as_bytes())?,
        })
    }
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
    use jsonwebtoken::Validation;

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
                // The library's own checks let these pass.
                TokenDefect::Milliseconds | TokenDefect::UnknownExtension => assert!(claims.is_some(), "{defect:?}"),
                _ => assert!(claims.is_none(), "{defect:?}"),
            }
        }
    }
}
