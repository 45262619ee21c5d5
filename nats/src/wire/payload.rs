//! Types of payloads as values, from which documents and tests follow.

use std::fmt::Debug;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error};

/// How much of an error is kept, in characters: serde quotes what was sent, and errors are logged and sent back.
const MAX_ERROR_CHARS: usize = 160;

/// Decodes a payload, which is an object: serde would also read a list of its values, in the order of their declaration.
///
/// # Errors
/// It is a list, or not of this type. The text of the error is short, whatever was sent.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> serde_json::Result<T> {
    match payload.trim_ascii_start().first() {
        Some(b'[') => Err(serde_json::Error::custom("a payload is an object")),
        _ => serde_json::from_slice(payload).map_err(shortened),
    }
}

fn shortened(error: serde_json::Error) -> serde_json::Error {
    let text = error.to_string();
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => {
            let (start, line, column) = (text.get(..end).unwrap_or_default(), error.line(), error.column());
            serde_json::Error::custom(format!("{start}… at line {line} column {column}"))
        }
        None => error,
    }
}

/// The type of a payload.
#[derive(Debug, Clone, Copy)]
pub struct PayloadType {
    schema: fn(&mut SchemaGenerator) -> Schema,
    recode: fn(&[u8]) -> serde_json::Result<Recoded>,
}

/// A payload that was decoded and encoded again.
#[derive(Debug, Clone)]
pub struct Recoded {
    /// The decoded value, with the names of its fields in Rust.
    pub value: String,
    /// Its encoded form.
    pub encoded: Vec<u8>,
}

impl PayloadType {
    /// That of `T`.
    pub const fn of<T: JsonSchema + Serialize + DeserializeOwned + Debug>() -> Self {
        Self {
            schema: |generator| generator.subschema_for::<T>(),
            recode: |payload| {
                let value: T = serde_json::from_slice(payload)?;
                Ok(Recoded {
                    value: format!("{value:#?}"),
                    encoded: serde_json::to_vec(&value)?,
                })
            },
        }
    }

    /// Its JSON schema.
    pub fn schema(self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// Decodes a payload and encodes it again.
    ///
    /// # Errors
    /// It is not of this type.
    pub fn recode(self, payload: &[u8]) -> serde_json::Result<Recoded> {
        (self.recode)(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::command::{ExtendCall, Terminate};
    use crate::wire::credit::Authorization;

    #[test]
    fn an_error_is_short_and_names_the_place_whatever_was_sent() {
        let long = "音".repeat(40_000);
        let errors = [
            decode::<ExtendCall>(format!(r#"{{"grantId":"g","untilMs":"{long}"}}"#).as_bytes()).unwrap_err(),
            decode::<Terminate>(format!(r#"{{"by":{{"{long}":1}}}}"#).as_bytes()).unwrap_err(),
            decode::<Authorization>(format!(r#"{{"allow":"{long}"}}"#).as_bytes()).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.chars().count() < 200, "{text}");
            assert!(text.contains(" at line 1 column "), "{text}");
        }
    }
}
