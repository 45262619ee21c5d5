//! Secret values, which are never shown.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// The placeholder for a secret in output.
pub const REDACTED: &str = "[redacted]";

/// A text that neither `Debug` nor `Serialize` reveals. Call [`Secret::expose`] where it is used.
///
/// Its default is empty. A default with a value would be a secret in the program, and `load` rejects such settings.
#[derive(Clone, Default, PartialEq, Eq, JsonSchema)]
// What JSON Schema calls a value that may be written but not read.
#[schemars(transparent, extend("writeOnly" = true))]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether no secret is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { REDACTED })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own message would quote a secret that is not a string, such as a number.
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom("expected a text in quotes"))?;
        if text == REDACTED {
            return Err(D::Error::custom(
                "this is the placeholder of a printed secret, not the secret",
            ));
        }
        Ok(Self(text))
    }
}

/// Replaces `user:password@` in every URL within `json`.
pub(super) fn redact_passwords(json: &mut Value) {
    match json {
        Value::String(text) => {
            if let Some(clean) = without_password(text) {
                *text = clean;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact_passwords),
        Value::Object(values) => values.values_mut().for_each(redact_passwords),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Handles a comma-separated list of URLs, as NATS accepts it.
fn without_password(text: &str) -> Option<String> {
    let clean: Vec<_> = text
        .split(',')
        .map(|url| {
            let (scheme, rest) = url.split_once("://")?;
            let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let at = rest.get(..authority)?.rfind('@')?;
            Some(format!("{scheme}://{REDACTED}{}", rest.get(at..)?))
        })
        .collect();
    if clean.iter().all(Option::is_none) {
        return None;
    }
    let urls = text
        .split(',')
        .zip(clean)
        .map(|(url, clean)| clean.unwrap_or_else(|| url.to_owned()));
    Some(urls.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_json_shows_a_secret() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), REDACTED);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn an_error_does_not_quote_the_secret() {
        let error = serde_json::from_str::<Secret>("31337").unwrap_err().to_string();
        assert!(!error.contains("31337"), "{error}");
        assert!(serde_json::from_str::<Secret>("\"[redacted]\"").is_err());
    }

    #[test]
    fn urls_lose_their_passwords_only() {
        let mut json = serde_json::json!({
            "one": "nats://edge:hunter2@127.0.0.1:4222/x", "plain": "nats://127.0.0.1:4222", "mail": "a@b",
            "many": ["nats://a:b@h1,nats://h2"], "path": "http://h/@x",
        });
        redact_passwords(&mut json);
        let expected = serde_json::json!({
            "one": "nats://[redacted]@127.0.0.1:4222/x", "plain": "nats://127.0.0.1:4222", "mail": "a@b",
            "many": ["nats://[redacted]@h1,nats://h2"], "path": "http://h/@x",
        });
        assert_eq!(json, expected);
    }
}
