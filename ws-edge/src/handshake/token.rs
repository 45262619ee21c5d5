//! JSON Web Tokens (RFC 7519): verified at the handshake, minted by the command line.

use std::fmt;
use std::time::Duration;

use contract::wire::id::InvalidId;
use contract::{Party, Role, Timestamp, UserId};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::settings::{JwtSettings, TokenAlgorithm};

/// The `role` claim of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// A party of calls.
    User,
    /// A party of calls.
    Otomo,
    /// An operator. Not a party of any call.
    Ops,
}

/// A person with access to the operations page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator(String);

impl Operator {
    /// An operator by name, which appears in the log.
    ///
    /// # Errors
    /// [`InvalidId`] if `name` is no identifier.
    pub fn new(name: &str) -> Result<Self, InvalidId> {
        // All identifiers obey the same rule; `UserId` stands for any of them.
        name.parse::<UserId>().map(|name| Self(name.as_str().to_owned()))
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The claims of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: TokenRole,
    aud: Audience,
    exp: u64,
}

/// One audience or several; `jsonwebtoken` checks them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// It is valid, but its role may not use this endpoint.
    #[error("the token's role may not use this endpoint")]
    OtherRole,
    /// Anything else. The details go to the log, not to the client.
    #[error("the token is not valid")]
    Invalid(String),
}

/// Verifies and mints tokens.
pub struct Tokens {
    verifying: DecodingKey,
    signing: EncodingKey,
    validation: Validation,
    algorithm: Algorithm,
    audience: String,
}

impl Tokens {
    /// From the settings.
    pub fn new(settings: &JwtSettings) -> Self {
        let algorithm = match settings.algorithm {
            TokenAlgorithm::HS256 => Algorithm::HS256,
            TokenAlgorithm::HS384 => Algorithm::HS384,
            TokenAlgorithm::HS512 => Algorithm::HS512,
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = settings.leeway_s;
        validation.validate_nbf = true;
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let secret = settings.secret.expose().as_bytes();
        Self {
            verifying: DecodingKey::from_secret(secret),
            signing: EncodingKey::from_secret(secret),
            validation,
            algorithm,
            audience: settings.audience.clone(),
        }
    }

    /// The party of a token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str) -> Result<Party, TokenError> {
        let claims = self.claims(token)?;
        let role = match claims.role {
            TokenRole::User => Role::User,
            TokenRole::Otomo => Role::Otomo,
            TokenRole::Ops => return Err(TokenError::OtherRole),
        };
        Party::new(role, &claims.sub).map_err(|error| TokenError::Invalid(format!("sub: {error}")))
    }

    /// The operator of a token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify_operator(&self, token: &str) -> Result<Operator, TokenError> {
        let claims = self.claims(token)?;
        match claims.role {
            TokenRole::Ops => Operator::new(&claims.sub).map_err(|error| TokenError::Invalid(format!("sub: {error}"))),
            TokenRole::User | TokenRole::Otomo => Err(TokenError::OtherRole),
        }
    }

    fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        match decode::<Claims>(token, &self.verifying, &self.validation) {
            Ok(decoded) => Ok(decoded.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid(error.to_string()),
            }),
        }
    }

    /// A token for `party`, from now on for `lifetime`.
    ///
    /// # Errors
    /// None in practice: every claim has a JSON form.
    pub fn mint(&self, party: &Party, lifetime: Duration) -> Result<String, jsonwebtoken::errors::Error> {
        let role = match party.role() {
            Role::User => TokenRole::User,
            Role::Otomo => TokenRole::Otomo,
        };
        self.sign(party.id(), role, lifetime)
    }

    /// A token for an operator, from now on for `lifetime`.
    ///
    /// # Errors
    /// As [`Tokens::mint`].
    pub fn mint_operator(
        &self,
        operator: &Operator,
        lifetime: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign(&operator.0, TokenRole::Ops, lifetime)
    }

    fn sign(&self, sub: &str, role: TokenRole, lifetime: Duration) -> Result<String, jsonwebtoken::errors::Error> {
        let expires = Timestamp::now().plus(lifetime).as_millis() / 1000;
        let claims = Claims {
            sub: sub.to_owned(),
            role,
            aud: Audience::One(self.audience.clone()),
            exp: u64::try_from(expires).unwrap_or_default(),
        };
        encode(&Header::new(self.algorithm), &claims, &self.signing)
    }
}

/// Reads `90s`, `15m`, `1h` or `7d`.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time span such as 90s, 15m, 1h or 7d");
    let seconds = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(wrong()),
    };
    let count = text
        .get(..text.len() - 1)
        .and_then(|count| count.parse::<u32>().ok())
        .ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(count) * seconds))
}

/// Reads `user`, `otomo` or `ops`.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_role(text: &str) -> Result<TokenRole, String> {
    match text {
        "user" => Ok(TokenRole::User),
        "otomo" => Ok(TokenRole::Otomo),
        "ops" => Ok(TokenRole::Ops),
        _ => Err(format!("{text:?} is none of user, otomo and ops")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use service::Secret;

    use super::*;

    const SECRET: &str = "a secret for these tests that is long enough for every one of the algorithms";

    fn settings() -> JwtSettings {
        JwtSettings {
            secret: Secret::new(SECRET),
            ..JwtSettings::default()
        }
    }

    fn now() -> i64 {
        Timestamp::now().as_millis() / 1000
    }

    fn signed(algorithm: Algorithm, claims: &Value) -> String {
        encode(
            &Header::new(algorithm),
            claims,
            &EncodingKey::from_secret(SECRET.as_bytes()),
        )
        .unwrap()
    }

    fn claims(change: Value) -> Value {
        let mut claims = json!({ "sub": "user_001", "role": "user", "aud": "callpulse", "exp": now() + 60 });
        for (claim, value) in change.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        claims
    }

    fn verify(change: Value) -> Result<Party, TokenError> {
        Tokens::new(&settings()).verify(&signed(Algorithm::HS256, &claims(change)))
    }

    #[test]
    fn a_minted_token_is_accepted() {
        let tokens = Tokens::new(&settings());
        let party = Party::new(Role::Otomo, "otomo_777").unwrap();
        let token = tokens.mint(&party, Duration::from_secs(60)).unwrap();
        assert_eq!(tokens.verify(&token), Ok(party));
    }

    #[test]
    fn operators_are_no_parties_and_parties_no_operators() {
        let tokens = Tokens::new(&settings());
        let operator = Operator::new("alice").unwrap();
        let token = tokens.mint_operator(&operator, Duration::from_secs(60)).unwrap();
        assert_eq!(tokens.verify_operator(&token), Ok(operator));
        assert_eq!(tokens.verify(&token), Err(TokenError::OtherRole));
        for role in Role::BOTH {
            let party = Party::new(role, "alice").unwrap();
            let token = tokens.mint(&party, Duration::from_secs(60)).unwrap();
            assert_eq!(tokens.verify_operator(&token), Err(TokenError::OtherRole));
        }
        let invalid = signed(Algorithm::HS256, &claims(json!({ "role": "ops", "sub": "a.b" })));
        assert!(matches!(tokens.verify_operator(&invalid), Err(TokenError::Invalid(_))));
    }

    #[test]
    fn several_audiences_may_include_ours() {
        assert!(verify(json!({ "aud": ["other", "callpulse"] })).is_ok());
        assert!(verify(json!({ "aud": ["other"] })).is_err());
    }

    #[test]
    fn time_is_checked_with_seconds_of_leeway() {
        assert_eq!(verify(json!({ "exp": now() - 10 })), Err(TokenError::Expired));
        assert!(verify(json!({ "exp": now() - 1 })).is_ok());
        assert!(matches!(
            verify(json!({ "nbf": now() + 10 })),
            Err(TokenError::Invalid(_))
        ));
        assert!(verify(json!({ "nbf": now() - 10 })).is_ok());
    }

    #[test]
    fn missing_and_mistyped_claims_are_refused() {
        for change in [
            json!({ "aud": "another-service" }),
            json!({ "role": "admin" }),
            json!({ "role": null }),
            json!({ "sub": "user.>" }),
            json!({ "sub": "" }),
            json!({ "sub": 7 }),
            json!({ "exp": "tomorrow" }),
            json!({ "exp": null }),
            json!({ "aud": null }),
            json!({ "nbf": "yesterday" }),
        ] {
            assert!(
                matches!(verify(change.clone()), Err(TokenError::Invalid(_))),
                "{change}"
            );
        }
    }

    #[test]
    fn the_algorithm_is_pinned() {
        let tokens = Tokens::new(&settings());
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert!(tokens.verify(&signed(algorithm, &claims(json!({})))).is_err());
        }
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1In0.";
        for garbage in [unsigned, "", "a", "a.b", "a.b.c", "..", "\u{97f3}.b.c"] {
            assert!(tokens.verify(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn lifetimes_are_read() {
        assert_eq!(parse_lifetime("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_lifetime("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "h", "1", "1w", "-1h", "1\u{97f3}", "99999999999h"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
