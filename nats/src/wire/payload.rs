//! Types of payloads as values, from which documents and tests follow.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The type of a payload.
#[derive(Debug, Clone, Copy)]
pub struct PayloadType {
    schema: fn(&mut SchemaGenerator) -> Schema,
    recode: fn(&[u8]) -> serde_json::Result<Vec<u8>>,
}

impl PayloadType {
    /// That of `T`.
    pub const fn of<T: JsonSchema + Serialize + DeserializeOwned>() -> Self {
        Self {
            schema: |generator| generator.subschema_for::<T>(),
            recode: |payload| serde_json::to_vec(&serde_json::from_slice::<T>(payload)?),
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
    pub fn recode(self, payload: &[u8]) -> serde_json::Result<Vec<u8>> {
        (self.recode)(payload)
    }
}
