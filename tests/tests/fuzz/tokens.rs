use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use callpulse_tests::fuzz::Fuzz;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::Value;
use ws_edge::handshake::token::{KeyRing, Tokens};
use ws_edge::settings::{JwtSettings, TokenAlgorithm};

const SECRET: &str = "a secret of the fuzzer, 32 bytes";

/// The header and the claims of `input`, signed with the right key.
fn signed(input: &Value) -> String {
    let part = |key: &str| URL_SAFE_NO_PAD.encode(input.get(key).unwrap_or(input).to_string());
    let message = format!("{}.{}", part("header"), part("claims"));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn tokens_with_a_valid_signature_and_without_do_not_panic() {
    let settings = JwtSettings {
        audience: "callpulse".to_owned(),
        ..JwtSettings::default()
    };
    let ring = KeyRing::with_secret(SECRET, TokenAlgorithm::HS256).unwrap();
    let tokens = Tokens::new(&settings, ring);
    let fuzz = Fuzz::new("tokens", []).unwrap();
    fuzz.run(|input| {
        if let Ok(value) = serde_json::from_slice(input) {
            let token = signed(&value);
            let (party, operator) = (tokens.verify(&token), tokens.verify_operator(&token));
            assert!(party.is_err() || operator.is_err(), "both a party and an operator");
            if party.is_ok() || operator.is_ok() {
                let audience = value.pointer("/claims/aud").unwrap().to_string();
                assert!(audience.contains("callpulse"), "{audience}");
                // Neither is a token with another signature.
                let forged = format!("{token}A");
                assert!(tokens.verify(&forged).is_err() && tokens.verify_operator(&forged).is_err());
            }
        }
        let _ = tokens.verify(&String::from_utf8_lossy(input));
    })
    .unwrap();
}
