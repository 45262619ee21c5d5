//! Identifiers as validated newtypes, safe in a subject or a key.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest identifier, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// Why a text is not an identifier.
///
/// A `.`, `*`, `>` or blank in an identifier would be a subject injection, so nothing but `[A-Za-z0-9_-]{1,64}` passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidId {
    /// Empty.
    #[error("an ID must not be empty")]
    Empty,
    /// More than [`MAX_ID_LEN`] bytes.
    #[error("an ID has at most {MAX_ID_LEN} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside `[A-Za-z0-9_-]`.
    #[error("an ID consists of A-Z, a-z, 0-9, '_' and '-', this one has {0:?}")]
    Character(char),
}

fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match text.chars().find(|c| !is_allowed(c)) {
        Some(character) => Err(InvalidId::Character(character)),
        None if text.len() > MAX_ID_LEN => Err(InvalidId::TooLong(text.len())),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Clones share the text.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                check(&text).map(|()| Self(text.into()))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check(text).map(|()| Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": format!("^[A-Za-z0-9_-]{{1,{MAX_ID_LEN}}}$") })
            }
        }
    };
}

id!(
    /// One call, from its request to its settlement.
    CallId
);
id!(
    /// What a client gives its `call_request`, to repeat it safely.
    RequestKey
);
id!(
    /// The party that calls and pays.
    UserId
);
id!(
    /// The paid companion who is called.
    OtomoId
);
id!(
    /// One media-worker process.
    WorkerId
);
id!(
    /// One grant of a wallet: the time until which it lets a call go on.
    GrantId
);
id!(
    /// The name of the terms of a call.
    TermsId
);
id!(
    /// One process of any other service: a ws-edge node, a billing-timer instance.
    NodeId
);

impl CallId {
    /// A new identifier: UUID version 7 (RFC 9562), so calls sort by the time of their request.
    pub fn generate() -> Self {
        Self(format!("call_{}", uuid::Uuid::now_v7().simple()).into())
    }
}

impl WorkerId {
    /// A new identifier for a process that was not given one.
    pub fn generate() -> Self {
        Self(format!("mw_{}", random_suffix()).into())
    }
}

impl NodeId {
    /// A new identifier for a process that was not given one. `prefix` names the service.
    ///
    /// # Errors
    /// [`InvalidId`] if `prefix` contains an invalid character or is too long.
    pub fn generate(prefix: &str) -> Result<Self, InvalidId> {
        format!("{prefix}_{}", random_suffix()).try_into()
    }
}

fn random_suffix() -> String {
    format!("{:08x}", rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_subject_characters_are_rejected() {
        for (text, error) in [
            ("", InvalidId::Empty),
            ("a.b", InvalidId::Character('.')),
            ("*", InvalidId::Character('*')),
            (">", InvalidId::Character('>')),
            ("a b", InvalidId::Character(' ')),
            ("a\n", InvalidId::Character('\n')),
            ("音", InvalidId::Character('音')),
        ] {
            assert_eq!(text.parse::<CallId>(), Err(error), "{text:?}");
        }
        assert_eq!("x".repeat(65).parse::<UserId>(), Err(InvalidId::TooLong(65)));
    }

    #[test]
    fn ids_of_up_to_64_allowed_characters_are_accepted() {
        let id = format!("AZaz09_-{}", "x".repeat(56));
        assert_eq!(id.parse::<OtomoId>().unwrap().as_str(), id);
    }

    #[test]
    fn ids_in_json_are_checked() {
        assert!(serde_json::from_str::<CallId>("\"call_1\"").is_ok());
        assert!(serde_json::from_str::<CallId>("\"call.1\"").is_err());
        assert!(serde_json::from_str::<CallId>("7").is_err());
    }

    #[test]
    fn generated_ids_are_valid_and_sort_by_time() {
        let (a, b) = (CallId::generate(), CallId::generate());
        assert!(a < b);
        assert_eq!(a.as_str().parse::<CallId>(), Ok(a.clone()));
        assert!(WorkerId::generate().as_str().starts_with("mw_"));
        assert!(NodeId::generate("bad.prefix").is_err());
    }
}
