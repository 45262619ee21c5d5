//! Types of payloads as values, from which documents and tests follow.

use std::fmt::Debug;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error};

/// Decodes a payload, which is an object: serde would also read a list of its values, in the order of their declaration.
///
/// # Errors
/// It is a list, or not of this type.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> serde_json::Result<T> {
    match payload.trim_ascii_start().first() {
        Some(b'[') => Err(serde_json::Error::custom("a payload is an object")),
        _ => serde_json::from_slice(payload),
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
