//! JSON Web Tokens (RFC 7519): verified at the handshake, minted by the command line.

use std::fmt;
use std::time::Duration;

use contract::wire::id::InvalidId;
use contract::{Party, Role, Timestamp, UserId};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

pub use key_ring::{KeyRing, KeySources};

use crate::settings::JwtSettings;

mod key_ring;
mod keys;

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

/// The claims of a token. Times are NumericDates: seconds, with or without a fraction (RFC 7519 section 2).
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    role: TokenRole,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
}

/// One audience or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
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
    /// There are no keys yet: their sources cannot be read.
    #[error("this node has no keys yet; try again")]
    NoKeys,
    /// Its signature is valid, but not a claim. The details help its issuer.
    #[error("the token is not valid: {0}")]
    Claim(&'static str),
    /// Anything else. The details go to the log, not to the client.
    #[error("the token is not valid")]
    Invalid(String),
}

impl TokenError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "token_expired",
            Self::OtherRole => "role_forbidden",
            Self::NoKeys => "unavailable",
            Self::Claim(_) | Self::Invalid(_) => "token_invalid",
        }
    }
}

/// The owner of a token, and for how long it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    /// A party or an operator.
    pub owner: T,
    /// The claim `exp`.
    pub expires_at: Timestamp,
    /// The time until it is no longer accepted: until `exp`, and the leeway.
    pub remaining: Duration,
}

impl<T> Verified<T> {
    /// With another owner.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Verified<U> {
        Verified {
            owner: map(self.owner),
            expires_at: self.expires_at,
            remaining: self.remaining,
        }
    }
}

/// Verifies tokens.
pub struct Tokens {
    keys: KeyRing,
    audience: String,
    leeway: Duration,
}

/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest lifetime of a minted token.
const MAX_LIFETIME_S: u64 = 3_650 * 24 * 3600;
/// The longest reason of a refusal, in characters.
const MAX_REASON_CHARS: usize = 100;
/// A NumericDate beyond this, in the year 5138, is one in milliseconds.
const MAX_SECONDS: f64 = 1e11;

impl Tokens {
    /// Accepts tokens signed with one of the `keys`, for the audience of the settings.
    pub fn new(settings: &JwtSettings, keys: KeyRing) -> Self {
        Self {
            keys,
            audience: settings.audience.clone(),
            leeway: Duration::from_secs(settings.leeway_s),
        }
    }

    /// The party of a token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(&self, token: &str) -> Result<Verified<Party>, TokenError> {
        let claims = self.claims(token)?;
        let role = match claims.role {
            TokenRole::User => Role::User,
            TokenRole::Otomo => Role::Otomo,
            TokenRole::Ops => return Err(TokenError::OtherRole),
        };
        let party = Party::new(role, &claims.sub).map_err(|_| INVALID_SUB)?;
        self.verified(party, &claims, Timestamp::now())
    }

    /// The operator of a token.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify_operator(&self, token: &str) -> Result<Verified<Operator>, TokenError> {
        let claims = self.claims(token)?;
        match claims.role {
            TokenRole::Ops => {
                let operator = Operator::new(&claims.sub).map_err(|_| INVALID_SUB)?;
                self.verified(operator, &claims, Timestamp::now())
            }
            TokenRole::User | TokenRole::Otomo => Err(TokenError::OtherRole),
        }
    }

    /// The claims of a token whose signature is valid.
    fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        let invalid = |reason: &str| TokenError::Invalid(reason.to_owned());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("longer than the limit"));
        }
        let header = decode_header(token).map_err(|error| unreadable(&error))?;
        // RFC 7515 section 4.1.11: an extension that is not understood must not be ignored. No extension is understood here.
        if header.crit.is_some() {
            return Err(invalid("crit: names an extension that is not supported"));
        }
        let kid = header.kid.as_deref();
        let keys = self.keys.keys();
        if keys.is_empty() {
            return Err(TokenError::NoKeys);
        }
        let mut selected = keys.iter().filter(|key| key.is_selected_by(kid)).peekable();
        if selected.peek().is_none() {
            self.keys.want_more();
            return Err(invalid("kid: names no key of this service"));
        }
        let mut failure = invalid("alg: is not the algorithm of the key");
        // The algorithm is that of the key, whatever the token says.
        for key in selected.filter(|key| key.algorithm == header.alg) {
            match decode::<Claims>(token, &key.decoding, &signature_only(key.algorithm)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => failure = unreadable(&error),
            }
        }
        Err(failure)
    }

    /// Checks the audience and the times.
    fn verified<T>(&self, owner: T, claims: &Claims, now: Timestamp) -> Result<Verified<T>, TokenError> {
        if !claims.aud.contains(&self.audience) {
            return Err(TokenError::Claim("aud: names another service"));
        }
        if claims.exp > MAX_SECONDS {
            return Err(TokenError::Claim("exp: is in milliseconds; RFC 7519 has seconds"));
        }
        if claims.nbf.is_some_and(|nbf| nbf > MAX_SECONDS) {
            return Err(TokenError::Claim("nbf: is in milliseconds; RFC 7519 has seconds"));
        }
        if claims
            .nbf
            .is_some_and(|nbf| millis(nbf) > now.plus(self.leeway).as_millis())
        {
            return Err(TokenError::Claim("nbf: it is not valid yet"));
        }
        let expires_at = millis(claims.exp);
        let remaining = expires_at.saturating_sub(now.as_millis());
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(i64::MAX);
        let remaining = u64::try_from(remaining.saturating_add(leeway)).unwrap_or_default();
        if remaining == 0 {
            return Err(TokenError::Expired);
        }
        Ok(Verified {
            owner,
            expires_at: Timestamp::from_millis(expires_at).ok_or(TokenError::Claim("exp: is no time"))?,
            remaining: Duration::from_millis(remaining),
        })
    }
}

/// The reason in short: it may quote the token, and is logged.
fn unreadable(error: &jsonwebtoken::errors::Error) -> TokenError {
    TokenError::Invalid(error.to_string().chars().take(MAX_REASON_CHARS).collect())
}

const INVALID_SUB: TokenError = TokenError::Claim("sub: expected 1 to 64 characters of A-Z, a-z, 0-9, _ and -");

/// The claims are checked in [`Tokens::verified`]: the library takes no fractions of a second.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float is cut to the range, and NaN to 0"
)]
fn millis(numeric_date: f64) -> i64 {
    (numeric_date * 1000.0) as i64
}

/// Mints tokens with the shared key of the settings.
pub struct Minter {
    key: EncodingKey,
    algorithm: Algorithm,
    audience: String,
}

impl Minter {
    /// From the settings.
    ///
    /// # Errors
    /// If they have no shared key.
    pub fn new(settings: &JwtSettings) -> Result<Self, String> {
        if settings.secret.is_empty() {
            return Err("jwt.secret: is not set; only the issuer can mint tokens".to_owned());
        }
        Ok(Self {
            key: EncodingKey::from_secret(settings.secret.expose().as_bytes()),
            algorithm: settings.algorithm.into(),
            audience: settings.audience.clone(),
        })
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
    /// As [`Minter::mint`].
    pub fn mint_operator(
        &self,
        operator: &Operator,
        lifetime: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign(&operator.0, TokenRole::Ops, lifetime)
    }

    fn sign(&self, sub: &str, role: TokenRole, lifetime: Duration) -> Result<String, jsonwebtoken::errors::Error> {
        let expires = Timestamp::now().plus(lifetime).as_millis() / 1000;
        // A whole number: not every reader takes `1.7e9`, or a fraction.
        let claims = json!({ "sub": sub, "role": role, "aud": self.audience, "exp": expires });
        encode(&Header::new(self.algorithm), &claims, &self.key)
    }
}

/// Reads `90s`, `15m`, `1h` or `7d`, up to ten years: what ends after [`MAX_SECONDS`] would be refused.
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
    match u64::from(count) * seconds {
        seconds if seconds <= MAX_LIFETIME_S => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text:?} is longer than 3650d")),
    }
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
mod tests;
