//! What is wrong with settings, and where it came from.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A settings file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The program's own default.
    Default,
    /// Several sources at once.
    Merged,
}

/// One wrong key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    key: String,
    origin: Origin,
    what: String,
}

/// Everything that is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors {
    problems: Vec<Problem>,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, origin: Origin, what: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            origin,
            what: what.into(),
        }
    }

    /// The key as in a file: `nats.url`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl SettingsErrors {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Each of them.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Default => f.write_str("default"),
            Self::Merged => f.write_str("all sources"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.origin, self.what)
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SettingsErrors {}

/// What serde says is wrong, less the value that it quotes.
pub(super) fn without_value(error: &serde_json::Error, value: Option<&Value>) -> String {
    let text = error.to_string();
    if let Some((_, expected)) = text.rsplit_once(", expected ") {
        return format!("expected {expected}");
    }
    let quoted = value.and_then(Value::as_str).is_some_and(|value| text.contains(value));
    if quoted { "does not fit".to_owned() } else { text }
}
