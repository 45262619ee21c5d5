//! The two sources of settings, taken apart into leaves.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;

use config::{Environment, File, FileFormat, Source as _, ValueKind};
use serde_json::{Map, Value};

use super::problem::{Origin, Problem};

/// Between the parts of a variable's name, and after its prefix. Single underscores are left to Kubernetes, which gives
/// every container `WS_EDGE_PORT` and the like for a service of that name.
const SEPARATOR: &str = "__";

/// No more is read of a file that holds one value: it would be no secret but a mistake.
const VALUE_FILE_BYTES: u64 = 64 * 1024;

/// One value as it was given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) path: Vec<String>,
    pub(super) value: Raw,
    pub(super) origin: Origin,
}

/// A value before it is fitted to its key.
#[derive(Debug)]
pub(super) enum Raw {
    /// With a type of its own, from TOML.
    Typed(Value),
    /// A text that is read as its key's default suggests.
    Text(String),
}

/// All that one source has.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) leaves: Vec<Given>,
    pub(super) problems: Vec<Problem>,
}

impl Given {
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

/// A TOML file's leaves. A table is a leaf where `shape` has none, or leaves its inside open.
pub(super) fn file(path: &Path, shape: &Value) -> Source {
    let origin = Origin::File(path.to_owned());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Source::refused("the settings file", origin, format!("cannot be read: {error}")),
    };
    match File::from_str(&text, FileFormat::Toml).collect() {
        Ok(table) => {
            let mut leaves = Vec::new();
            for (key, value) in table {
                let inside = shape.get(&key);
                walk(vec![key], value, inside, &origin, &mut leaves);
            }
            leaves.sort_by(|a, b| a.path.cmp(&b.path));
            Source {
                leaves,
                problems: Vec::new(),
            }
        }
        Err(error) => Source::refused("the settings file", origin, without_snippet(&error.to_string())),
    }
}

/// The leaves of the variables that begin with `prefix`.
pub(super) fn environment<K, V>(prefix: &str, variables: impl IntoIterator<Item = (K, V)>) -> Source
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let mut source = Source::default();
    let mut texts = HashMap::new();
    let start = format!("{prefix}{SEPARATOR}");
    for (name, text) in variables {
        let Ok(name) = name.into().into_string() else { continue };
        if !name.starts_with(&start) {
            continue;
        }
        match text.into().into_string() {
            Ok(text) => {
                texts.insert(name, text);
            }
            Err(_) => source.problems.push(Problem::new(
                key_of(&start, &name),
                Origin::Variable(name),
                "is not UTF-8",
            )),
        }
    }
    let names: HashMap<_, _> = texts.keys().map(|name| (key_of(&start, name), name.clone())).collect();
    let environment = Environment::with_prefix(prefix)
        .separator(SEPARATOR)
        .ignore_empty(true)
        .source(Some(texts));
    match environment.collect() {
        Ok(values) => {
            for (key, value) in values {
                let name = names.get(&key).cloned().unwrap_or_else(|| key.clone());
                source.leaves.push(Given {
                    path: key.split('.').map(str::to_owned).collect(),
                    value: Raw::Text(value.kind.to_string()),
                    origin: Origin::Variable(name),
                });
            }
        }
        Err(error) => source
            .problems
            .push(Problem::new("the environment", Origin::Merged, error.to_string())),
    }
    source.leaves.sort_by(|a, b| a.path.cmp(&b.path));
    source
}

impl Source {
    fn refused(key: &str, origin: Origin, what: impl Into<String>) -> Self {
        Self {
            leaves: Vec::new(),
            problems: vec![Problem::new(key, origin, what)],
        }
    }
}

/// What [`Environment`] makes of a variable's name.
fn key_of(start: &str, name: &str) -> String {
    name.strip_prefix(start)
        .unwrap_or(name)
        .to_lowercase()
        .replace(SEPARATOR, ".")
}

fn walk(path: Vec<String>, value: config::Value, shape: Option<&Value>, origin: &Origin, leaves: &mut Vec<Given>) {
    match (value.kind, shape) {
        (ValueKind::Table(table), Some(Value::Object(known))) if !known.is_empty() => {
            for (key, value) in table {
                let inside = known.get(&key);
                walk(
                    path.iter().cloned().chain([key]).collect(),
                    value,
                    inside,
                    origin,
                    leaves,
                );
            }
        }
        (kind, _) => leaves.push(Given {
            path,
            value: Raw::Typed(json(kind)),
            origin: origin.clone(),
        }),
    }
}

fn json(kind: ValueKind) -> Value {
    match kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => value.into(),
        ValueKind::I64(value) => value.into(),
        ValueKind::U64(value) => value.into(),
        // TOML has neither: its integers are of 64 bits.
        ValueKind::I128(value) => value.to_string().into(),
        ValueKind::U128(value) => value.to_string().into(),
        ValueKind::Float(value) => value.into(),
        ValueKind::String(value) => value.into(),
        ValueKind::Table(table) => Value::Object(
            table
                .into_iter()
                .map(|(key, value)| (key, json(value.kind)))
                .collect::<Map<_, _>>(),
        ),
        ValueKind::Array(values) => values.into_iter().map(|value| json(value.kind)).collect(),
    }
}

/// A TOML error less the line that it quotes, which may hold a secret.
fn without_snippet(error: &str) -> String {
    let lines: Vec<_> = error
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|'))
        .collect();
    lines.join(": ")
}

/// Reads the file that holds a value; one line end after it does not count.
pub(super) fn value_file(path: &str) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot read that file: {error}");
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(VALUE_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        Err("that file is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}
