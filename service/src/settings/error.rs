//! Errors in settings, each with its key and the source of the value.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A settings file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The program's own default.
    Default,
    /// Several sources together.
    Merged,
    /// The limits of the process.
    Process,
}

/// One invalid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    key: String,
    origin: Origin,
    message: String,
}

/// All errors, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors {
    errors: Vec<SettingError>,
}

impl SettingError {
    pub(super) fn new(key: impl Into<String>, origin: Origin, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            origin,
            message: message.into(),
        }
    }

    /// The key as in a file: `nats.url`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl SettingsErrors {
    /// A setting that does not fit this process.
    pub(crate) fn of_process(key: &str, message: &str) -> Self {
        Self::new(vec![SettingError::new(key, Origin::Process, message)])
    }

    pub(super) fn new(errors: Vec<SettingError>) -> Self {
        Self { errors }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Default => f.write_str("default"),
            Self::Merged => f.write_str("all sources"),
            Self::Process => f.write_str("limits of this process"),
        }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.origin, self.message)
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.errors.iter().map(SettingError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SettingsErrors {}

/// serde's message in words, without the value that it quotes.
pub(super) fn without_value(error: &serde_json::Error, value: Option<&Value>) -> String {
    let text = error.to_string();
    let syntax = || text.strip_prefix("invalid ")?.strip_suffix(" syntax");
    if let Some(expected) = text.rsplit_once(", expected ").map(|(_, it)| it).or_else(syntax) {
        return format!("expected {}", in_words(expected));
    }
    // One character reveals no secret, and shows what an identifier must not contain.
    let is_quoted = |value: &str| value.chars().nth(1).is_some() && text.contains(value);
    let values = match value {
        Some(Value::Array(list)) => list.as_slice(),
        one => one.map(std::slice::from_ref).unwrap_or_default(),
    };
    if values.iter().filter_map(Value::as_str).any(is_quoted) {
        return "is not valid".to_owned();
    }
    text
}

/// What serde names by types of Rust.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number of at least 0",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" | "string or map" | "unit" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        "IP address" => "an IP address",
        "socket address" => "an address with a port",
        other => other,
    }
}
