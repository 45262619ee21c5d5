//! The keys that verify tokens: each has one algorithm, and an identifier by which tokens select it (`kid`, RFC 7517 section 4.5).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::settings::TokenAlgorithm;

/// The largest number of keys in a JWKS document.
const MAX_KEYS: usize = 64;
/// Sizes of an RSA modulus, in bytes: from 2,048 bits (RFC 7518 section 3.3) to what the RSA library accepts.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// What the DER form of an RSA key has around its modulus, at most, in bytes.
const RSA_DER_OVERHEAD: usize = 18;
/// The length of an uncompressed point of P-256, in bytes.
const P256_POINT_BYTES: usize = 65;
/// The length of a coordinate of P-256 or Ed25519, in bytes.
const COORDINATE_BYTES: usize = 32;

/// A key that verifies tokens of one algorithm.
#[derive(Clone)]
pub(super) struct Key {
    /// `None` for the only key of an issuer that names none.
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// A key shared with the issuer.
    ///
    /// # Errors
    /// If it is shorter than the algorithm's hash.
    pub(super) fn shared(id: Option<String>, algorithm: TokenAlgorithm, secret: &[u8]) -> Result<Self, String> {
        let least = algorithm
            .least_secret_bytes()
            .ok_or("this algorithm has no shared key")?;
        if secret.len() < least {
            return Err(format!(
                "has {} bytes, {algorithm:?} needs at least {least}",
                secret.len()
            ));
        }
        Ok(Self {
            id,
            algorithm: algorithm.into(),
            decoding: DecodingKey::from_secret(secret),
        })
    }

    /// The key in a file: PEM with a public key, or a shared key as it is.
    ///
    /// # Errors
    /// If the content is no key for the algorithm.
    pub(super) fn from_file(id: &str, algorithm: TokenAlgorithm, content: &[u8]) -> Result<Self, String> {
        let id = Some(id.to_owned());
        if algorithm.least_secret_bytes().is_some() {
            return Self::shared(id, algorithm, content.trim_ascii_end());
        }
        if !content.windows(10).any(|text| text == b"PUBLIC KEY") {
            return Err("expected a public key in PEM".to_owned());
        }
        let decoding = match algorithm {
            TokenAlgorithm::RS256 => DecodingKey::from_rsa_pem(content),
            TokenAlgorithm::ES256 => DecodingKey::from_ec_pem(content),
            _ => DecodingKey::from_ed_pem(content),
        };
        let decoding = decoding.map_err(|_| format!("is no public key for {algorithm:?}"))?;
        let bytes = decoding.try_get_as_bytes().unwrap_or_default().len();
        let is_usable = match algorithm {
            TokenAlgorithm::RS256 => {
                (*RSA_MODULUS_BYTES.start()..=RSA_MODULUS_BYTES.end() + RSA_DER_OVERHEAD).contains(&bytes)
            }
            TokenAlgorithm::ES256 => bytes == P256_POINT_BYTES,
            _ => bytes == COORDINATE_BYTES,
        };
        if !is_usable {
            return Err(format!(
                "is no public key for {algorithm:?} (RSA: from 2048 to 4096 bits; ES256: P-256)"
            ));
        }
        Ok(Self {
            id,
            algorithm: algorithm.into(),
            decoding,
        })
    }

    /// Whether a token with this `kid` may be signed with this key.
    pub(super) fn is_selected_by(&self, kid: Option<&str>) -> bool {
        self.id.is_none() || self.id.as_deref() == kid
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The keys of a JWKS document (RFC 7517 section 5). Keys for other purposes and of unknown kinds are left out.
///
/// # Errors
/// If it is no such document, has too many keys, or none that can verify tokens.
pub(super) fn parse_jwks(content: &[u8]) -> Result<Vec<Key>, String> {
    let document: Document = serde_json::from_slice(content).map_err(|error| {
        // A message of serde's could quote a key.
        format!("is no JWKS document (line {}, column {})", error.line(), error.column())
    })?;
    if document.keys.len() > MAX_KEYS {
        return Err(format!("has {} keys; the limit is {MAX_KEYS}", document.keys.len()));
    }
    let keys: Vec<_> = document.keys.into_iter().filter_map(usable).collect();
    if keys.is_empty() {
        return Err("has no key for HS256, HS384, HS512, RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

fn usable(key: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let common = &jwk.common;
    let is_for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures || !verifies {
        return None;
    }
    let algorithm = algorithm(&jwk)?;
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    let is_usable = match (decoding.kind(), algorithm) {
        (jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. }, _) => RSA_MODULUS_BYTES.contains(&n.len()),
        (_, TokenAlgorithm::ES256) => decoding
            .try_get_as_bytes()
            .is_ok_and(|point| point.len() == P256_POINT_BYTES),
        (_, TokenAlgorithm::EdDSA) => decoding
            .try_get_as_bytes()
            .is_ok_and(|key| key.len() == COORDINATE_BYTES),
        (_, shared) => {
            let least = shared.least_secret_bytes()?;
            decoding.try_get_as_bytes().is_ok_and(|secret| secret.len() >= least)
        }
    };
    is_usable.then(|| Key {
        id: common.key_id.clone(),
        algorithm: algorithm.into(),
        decoding,
    })
}

/// The algorithm that a key names or, where its kind leaves one only, that one.
fn algorithm(jwk: &Jwk) -> Option<TokenAlgorithm> {
    let named = jwk.common.key_algorithm;
    match (&jwk.algorithm, named) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Some(TokenAlgorithm::RS256),
        (AlgorithmParameters::EllipticCurve(key), None | Some(KeyAlgorithm::ES256))
            if key.curve == EllipticCurve::P256 =>
        {
            Some(TokenAlgorithm::ES256)
        }
        (AlgorithmParameters::OctetKeyPair(key), None | Some(KeyAlgorithm::EdDSA))
            if key.curve == EllipticCurve::Ed25519 =>
        {
            Some(TokenAlgorithm::EdDSA)
        }
        (AlgorithmParameters::OctetKey(_), Some(KeyAlgorithm::HS256)) => Some(TokenAlgorithm::HS256),
        (AlgorithmParameters::OctetKey(_), Some(KeyAlgorithm::HS384)) => Some(TokenAlgorithm::HS384),
        (AlgorithmParameters::OctetKey(_), Some(KeyAlgorithm::HS512)) => Some(TokenAlgorithm::HS512),
        _ => None,
    }
}

impl From<TokenAlgorithm> for Algorithm {
    fn from(algorithm: TokenAlgorithm) -> Self {
        match algorithm {
            TokenAlgorithm::HS256 => Self::HS256,
            TokenAlgorithm::HS384 => Self::HS384,
            TokenAlgorithm::HS512 => Self::HS512,
            TokenAlgorithm::RS256 => Self::RS256,
            TokenAlgorithm::ES256 => Self::ES256,
            TokenAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn base64(bytes: usize) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(vec![7; bytes])
    }

    fn parsed(keys: Value) -> Result<Vec<(Option<String>, Algorithm)>, String> {
        let keys = parse_jwks(json!({ "keys": keys }).to_string().as_bytes())?;
        Ok(keys.into_iter().map(|key| (key.id, key.algorithm)).collect())
    }

    #[test]
    fn every_key_has_one_algorithm() {
        let keys = json!([
            { "kty": "RSA", "kid": "a", "n": base64(256), "e": "AQAB" },
            { "kty": "RSA", "kid": "b", "alg": "RS256", "use": "sig", "n": base64(256), "e": "AQAB" },
            { "kty": "EC", "kid": "c", "crv": "P-256", "x": base64(32), "y": base64(32) },
            { "kty": "OKP", "kid": "d", "crv": "Ed25519", "x": base64(32), "key_ops": ["verify"] },
            { "kty": "oct", "alg": "HS512", "k": base64(64) },
        ]);
        let id = |id: &str| Some(id.to_owned());
        let expected = vec![
            (id("a"), Algorithm::RS256),
            (id("b"), Algorithm::RS256),
            (id("c"), Algorithm::ES256),
            (id("d"), Algorithm::EdDSA),
            (None, Algorithm::HS512),
        ];
        assert_eq!(parsed(keys), Ok(expected));
    }

    #[test]
    fn keys_that_cannot_verify_are_left_out() {
        for key in [
            json!({ "kty": "RSA", "n": base64(128), "e": "AQAB" }),
            json!({ "kty": "RSA", "n": base64(1024), "e": "AQAB" }),
            json!({ "kty": "RSA", "use": "enc", "n": base64(256), "e": "AQAB" }),
            json!({ "kty": "RSA", "alg": "RS512", "n": base64(256), "e": "AQAB" }),
            json!({ "kty": "RSA", "key_ops": ["sign"], "n": base64(256), "e": "AQAB" }),
            json!({ "kty": "EC", "crv": "P-384", "x": base64(48), "y": base64(48) }),
            json!({ "kty": "EC", "crv": "P-256", "x": base64(31), "y": base64(32) }),
            json!({ "kty": "oct", "k": base64(64) }),
            json!({ "kty": "oct", "alg": "HS256", "k": base64(31) }),
            json!({ "kty": "post-quantum" }),
            json!(7),
        ] {
            assert!(parsed(json!([key])).is_err(), "{key}");
            let good = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(32) });
            assert_eq!(parsed(json!([key, good])).map(|keys| keys.len()), Ok(1), "{key}");
        }
    }

    #[test]
    fn an_invalid_jwks_document_is_not_quoted_in_the_error() {
        for content in ["", "{}", "[]", "secret", r#"{"keys":{"k":"secret"}}"#, r#"{"keys":[]}"#] {
            let error = parse_jwks(content.as_bytes()).err().unwrap();
            assert!(!error.contains("secret"), "{error}");
        }
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(32) });
        assert!(parsed(json!(vec![key.clone(); MAX_KEYS])).is_ok());
        assert!(parsed(json!(vec![key; MAX_KEYS + 1])).is_err());
    }

    #[test]
    fn a_file_has_a_key_for_its_algorithm() {
        let secret = vec![b'x'; 48];
        assert!(Key::from_file("a", TokenAlgorithm::HS384, &secret).is_ok());
        for (algorithm, content) in [
            (TokenAlgorithm::HS512, secret.as_slice()),
            (TokenAlgorithm::RS256, secret.as_slice()),
            (
                TokenAlgorithm::ES256,
                b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            ),
            (TokenAlgorithm::EdDSA, b""),
        ] {
            assert!(Key::from_file("a", algorithm, content).is_err(), "{algorithm:?}");
        }
        // RFC 8410 section 10.1.
        let public = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert!(Key::from_file("a", TokenAlgorithm::EdDSA, public).is_ok());
        assert!(Key::from_file("a", TokenAlgorithm::ES256, public).is_err());
        let private = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        assert!(Key::from_file("a", TokenAlgorithm::EdDSA, private).is_err());
    }
}
