//! The keys `jwt.*`: how tokens are verified.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use service::Secret;
use service::settings::out_of_range;

use super::unreadable;
use crate::addresses::fetch;

/// The keys `jwt.*`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JwtSettings {
    /// Key shared with the issuer of tokens, at least as long as the hash of `jwt.algorithm` (RFC 7518 section 3.2). It has no
    /// `kid`. Required unless `jwt.key_files` or `jwt.jwks` has keys.
    pub secret: Secret,
    /// The only accepted signature algorithm of tokens signed with `jwt.secret`, regardless of their header: HS256, HS384 or HS512.
    pub algorithm: TokenAlgorithm,
    /// Further keys, each as `KID:ALGORITHM:PATH`: a public key in PEM or, for HS256, HS384 and HS512, a shared key. A token selects
    /// its key by `kid`; the key's algorithm is the only accepted one.
    pub key_files: Vec<KeyFile>,
    /// A JWKS document (RFC 7517) with further keys: the path of a file, or an `https://` URL (`http://` for loopback).
    pub jwks: String,
    /// Interval at which `jwt.key_files` and `jwt.jwks` are read again, from 1 to 86400. If that fails, the last keys stay in use.
    pub refresh_interval_s: u64,
    /// Audience that the claim `aud` of a token must contain.
    pub audience: String,
    /// Tolerated clock difference between issuer and node, at most 5.
    pub leeway_s: u64,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            secret: Secret::default(),
            algorithm: TokenAlgorithm::HS256,
            key_files: Vec::new(),
            jwks: String::new(),
            refresh_interval_s: 60,
            audience: "callpulse".to_owned(),
            leeway_s: 2,
        }
    }
}

impl JwtSettings {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let given = self.secret.expose().len();
        match self.algorithm.least_secret_bytes() {
            None => wrong.push("jwt.algorithm: must be HS256, HS384 or HS512; use jwt.key_files or jwt.jwks for others".to_owned()),
            Some(_) if given == 0 && self.key_files.is_empty() && self.jwks.is_empty() => wrong.push(
                "jwt.secret: set it, or jwt.secret_file, jwt.key_files or jwt.jwks: no token can be verified without a key"
                    .to_owned(),
            ),
            Some(least) if given != 0 && given < least => wrong.push(format!(
                "jwt.secret: has {given} bytes, {:?} needs at least {least}",
                self.algorithm
            )),
            Some(_) => {}
        }
        let outside = out_of_range(self, &[("refresh_interval_s", 1..=86_400), ("leeway_s", 0..=5)]);
        wrong.extend(outside.iter().map(|problem| format!("jwt.{problem}")));
        if self.jwks.contains("://")
            && let Err(error) = fetch::parse(&self.jwks)
        {
            wrong.push(format!("jwt.jwks: {error}"));
        }
        let jwks = Path::new(&self.jwks);
        let jwks = (!self.jwks.is_empty() && !self.jwks.contains("://")).then_some(("jwt.jwks", jwks));
        let key_files = self.key_files.iter().map(|file| ("jwt.key_files", file.path.as_path()));
        wrong.extend(unreadable(jwks.into_iter().chain(key_files)));
        if self.audience.is_empty() {
            wrong.push("jwt.audience: must not be empty".to_owned());
        }
        wrong
    }
}

/// A file with a key, written as `KID:ALGORITHM:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct KeyFile {
    /// Its identifier, the `kid` of tokens.
    pub id: String,
    /// The only algorithm that it verifies.
    pub algorithm: TokenAlgorithm,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for KeyFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let (Some(id), Some(algorithm), Some(path)) = (part(), part(), part()) else {
            return Err("expected KID:ALGORITHM:PATH".to_owned());
        };
        let algorithm = TokenAlgorithm::deserialize(algorithm.into_deserializer());
        Ok(Self {
            id: id.to_owned(),
            algorithm: algorithm.map_err(|error: serde::de::value::Error| error.to_string())?,
            path: path.into(),
        })
    }
}

impl Serialize for KeyFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!(
            "{}:{:?}:{}",
            self.id,
            self.algorithm,
            self.path.display()
        ))
    }
}

impl<'de> Deserialize<'de> for KeyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Algorithms of signatures (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256
    HS256,
    /// HMAC with SHA-384
    HS384,
    /// HMAC with SHA-512
    HS512,
    /// RSA with SHA-256
    RS256,
    /// ECDSA with P-256 and SHA-256
    ES256,
    /// Ed25519
    EdDSA,
}

impl TokenAlgorithm {
    /// The shortest shared key that is as strong as the hash, in bytes; `None` for algorithms with a public key.
    pub fn least_secret_bytes(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            Self::RS256 | Self::ES256 | Self::EdDSA => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::*;

    #[test]
    fn a_secret_is_at_least_as_long_as_the_hash() {
        assert!(problems(|settings| settings.jwt.secret = Secret::new("x".repeat(31)))[0].contains("31 bytes"));
        assert!(problems(|settings| settings.jwt.algorithm = TokenAlgorithm::HS512)[0].contains("at least 64"));
    }

    #[test]
    fn keys_come_from_a_secret_from_files_or_from_a_document() {
        let jwt = |change: fn(&mut JwtSettings)| problems(|settings| change(&mut settings.jwt));
        let key_file = || "2026-01:ES256:/run/secrets/a:b.pem".parse::<KeyFile>();
        let file = key_file().unwrap();
        assert_eq!((file.id.as_str(), file.algorithm), ("2026-01", TokenAlgorithm::ES256));
        assert_eq!(file.path, PathBuf::from("/run/secrets/a:b.pem"));
        for wrong in ["", "a", "a:ES256", "a:ES256:", ":ES256:/b", "a:none:/b", "a:HS1:/b"] {
            assert!(wrong.parse::<KeyFile>().is_err(), "{wrong}");
        }
        assert!(
            problems(|settings| {
                settings.jwt.secret = Secret::default();
                settings.jwt.key_files = vec![KeyFile {
                    path: concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
                    ..key_file().unwrap()
                }];
            })
            .is_empty()
        );
        let missing = problems(|settings| settings.jwt.key_files = vec![key_file().unwrap()]);
        assert!(missing[0].starts_with("jwt.key_files: /run/secrets/a:b.pem cannot be read"));
        assert!(jwt(|jwt| jwt.jwks = "https://issuer.example/keys.json".to_owned()).is_empty());
        assert!(jwt(|jwt| jwt.jwks = "/no/such/keys.json".to_owned())[0].contains("cannot be read"));
        assert!(jwt(|jwt| jwt.jwks = "/dev".to_owned())[0].ends_with("is not a regular file"));
        assert_eq!(
            jwt(|jwt| jwt.jwks = "http://issuer.example/keys.json".to_owned()).len(),
            1
        );
        assert_eq!(jwt(|jwt| jwt.algorithm = TokenAlgorithm::ES256).len(), 1);
        assert_eq!(jwt(|jwt| jwt.refresh_interval_s = 0).len(), 1);
    }
}
