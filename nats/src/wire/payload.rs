//! Types of payloads as values, from which documents and tests follow.

use std::fmt::Debug;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// How much of an error is kept, in characters: serde quotes what was sent, and errors are logged and sent back.
const MAX_ERROR_CHARS: usize = 160;

/// Decodes a payload, which is an object: serde would also read a list of its values, in the order of their declaration. An empty
/// payload is an object without fields.
///
/// # Errors
/// It is a list, or not of this type. The text of the error is short and without names of types, whatever was sent.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> serde_json::Result<T> {
    match payload.trim_ascii_start().first() {
        Some(b'[') => Err(serde_json::Error::custom("a payload is an object")),
        Some(_) => serde_json::from_slice(payload).map_err(readable),
        None => serde_json::from_slice(b"{}").map_err(readable),
    }
}

/// Decodes an object in a payload, if it is there. Like [`decode`], it does not read a list.
///
/// # Errors
/// It is not an object, or not of this type.
pub fn optional_object<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let fields = Option::<serde_json::Map<String, Value>>::deserialize(deserializer)?;
    let object = fields.map(|fields| serde_json::from_value(Value::Object(fields)));
    object.transpose().map_err(D::Error::custom)
}

fn readable(error: serde_json::Error) -> serde_json::Error {
    let (text, line, column) = (error.to_string(), error.line(), error.column());
    // It is added again when the error becomes text.
    let text = text
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&text);
    let mut text = without_type_names(text);
    if let Some((end, _)) = text.char_indices().nth(MAX_ERROR_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    serde_json::Error::custom(format!("{text} at line {line} column {column}"))
}

/// The text of an error of serde without the names of types in Rust, which its sender does not know.
pub fn without_type_names(error: &str) -> String {
    if error.starts_with("data did not match any variant of untagged enum") {
        return "has none of the forms that are expected here".to_owned();
    }
    let Some((start, expected)) = error.rsplit_once("expected ") else {
        return error.to_owned();
    };
    let expected = match expected.split(' ').next().unwrap_or_default() {
        "struct" | "variant" | "internally" | "adjacently" => "an object",
        "enum" => "a string",
        "tuple" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        _ => expected,
    };
    format!("{start}expected {expected}")
}

/// A character of another team's text as it may stand in a header, a log line or a page: a blank instead of a control character, an end
/// of a line, or a change of the writing direction.
pub fn printable(character: char) -> char {
    let breaks_lines = character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    let turns_text = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if breaks_lines || turns_text { ' ' } else { character }
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
    fn an_error_names_no_types_of_rust() {
        let text = |payload: &str| decode::<ExtendCall>(payload.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            text("5"),
            "invalid type: integer `5`, expected an object at line 1 column 1"
        );
        assert_eq!(
            text(r#"{"grantId":"g","untilMs":-1}"#),
            "invalid value: integer `-1`, expected a whole number at line 1 column 28"
        );
        assert_eq!(text(""), "missing field `grantId` at line 1 column 2");
        for (error, expected) in [
            (
                "invalid type: map, expected enum Kind",
                "invalid type: map, expected a string",
            ),
            (
                "invalid type: null, expected internally tagged enum Kind",
                "invalid type: null, expected an object",
            ),
            (
                "unknown variant `a`, expected one of `b`, `c`",
                "unknown variant `a`, expected one of `b`, `c`",
            ),
            (
                "data did not match any variant of untagged enum Kind",
                "has none of the forms that are expected here",
            ),
        ] {
            assert_eq!(without_type_names(error), expected);
        }
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        let terms = |terms: &str| {
            let answer = format!(r#"{{"allow":true,"grantId":"g","untilMs":60000,"terms":{terms}}}"#);
            decode::<Authorization>(answer.as_bytes())
        };
        let list = r#"["t",60000,"full",0,0,"bill"]"#;
        let error = terms(list).unwrap_err().to_string();
        assert!(error.contains("invalid type: sequence, expected a map"), "{error}");
        assert!(terms("null").is_ok());
        let object = r#"{"termsId":"t","intervalMs":60000,"charge":"full","freeMs":0,"minimumMs":0,"silence":"bill"}"#;
        assert!(terms(object).is_ok());
        assert!(decode::<Authorization>(format!("[{list}]").as_bytes()).is_err());
    }

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
