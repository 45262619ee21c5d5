//! The two sources of settings, a TOML file and the environment, as lists of entries.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{Origin, SettingError};

/// Separates the parts of a variable's name. Single underscores are left to Kubernetes, which sets `WS_EDGE_PORT` and the like
/// in every container for a service of that name.
const SEPARATOR: &str = "__";

/// Limit for a file that holds one value, in bytes. A longer file is a mistake.
const VALUE_FILE_BYTES: u64 = 64 * 1024;
/// Limit for a settings file, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;

/// The key of a TOML date, which serde reads as a table.
const DATETIME: &str = "$__toml_private_datetime";

/// One value as a source gives it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<String>,
    pub(super) value: RawValue,
    pub(super) origin: Origin,
}

/// A value before it is converted to its key's type.
#[derive(Debug)]
pub(super) enum RawValue {
    /// Typed, from TOML.
    Typed(Value),
    /// Text; the default of its key decides how it is parsed.
    Text(String),
}

/// The content of one source.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) entries: Vec<Entry>,
    pub(super) errors: Vec<SettingError>,
}

impl Entry {
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

/// The entries of a TOML file. A table is one entry where the defaults have no table, or leave its content open.
pub(super) fn file(path: &Path, defaults: &Value) -> Source {
    let origin = Origin::File(path.to_owned());
    let read = text_of(path, FILE_BYTES).map_err(|error| format!("cannot be read: {error}"));
    let parsed = read.and_then(|text| {
        toml::from_str::<Map<String, Value>>(&text).map_err(|error| without_snippet(&error.to_string()))
    });
    let mut source = Source::default();
    match parsed {
        Ok(table) => flatten(&[], table, defaults, &origin, &mut source.entries),
        Err(message) => source
            .errors
            .push(SettingError::new("the settings file", origin, message)),
    }
    source
}

/// The entries of the variables that begin with `prefix`. An empty variable counts as unset.
pub(super) fn environment<K, V>(prefix: &str, variables: impl IntoIterator<Item = (K, V)>) -> Source
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let mut source = Source::default();
    let start = format!("{prefix}{SEPARATOR}");
    for (name, text) in variables {
        let Ok(name) = name.into().into_string() else { continue };
        let Some(key) = name.strip_prefix(&start).map(str::to_lowercase) else {
            continue;
        };
        let path: Vec<_> = key.split(SEPARATOR).map(str::to_owned).collect();
        let origin = Origin::Variable(name);
        match text.into().into_string() {
            Ok(text) if text.is_empty() => {}
            Ok(text) => source.entries.push(Entry {
                path,
                value: RawValue::Text(text),
                origin,
            }),
            Err(_) => source
                .errors
                .push(SettingError::new(path.join("."), origin, "is not UTF-8")),
        }
    }
    source.entries.sort_by(|a, b| a.path.cmp(&b.path));
    source
}

fn flatten(parents: &[String], table: Map<String, Value>, defaults: &Value, origin: &Origin, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let path: Vec<_> = parents.iter().cloned().chain([key.clone()]).collect();
        match (value, defaults.get(&key)) {
            (Value::Object(table), Some(inside @ Value::Object(known)))
                if !known.is_empty() && !table.contains_key(DATETIME) =>
            {
                flatten(&path, table, inside, origin, entries);
            }
            (value, _) => entries.push(Entry {
                path,
                value: RawValue::Typed(value),
                origin: origin.clone(),
            }),
        }
    }
}

/// A TOML error without the line that it quotes, which may hold a secret.
fn without_snippet(error: &str) -> String {
    let lines: Vec<_> = error
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|'))
        .collect();
    // TOML is read into types of JSON. Of a bare null the parser only says that `nan` was expected.
    let text = lines.join(": ").replace("JSON number", "number");
    if error.contains("= null\n") {
        format!("{text}; write null in quotes: \"null\"")
    } else {
        text
    }
}

/// The text of a file of at most `most` bytes. A pipe or a device could keep the service from starting, or have no end.
fn text_of(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_file(path, most)?).map_err(|_| io::Error::other("is not UTF-8"))
}

/// The content of a file that settings name, which has at most this many bytes. Use it for files that are read again, too: meanwhile
/// another one may have taken the name.
///
/// # Errors
/// As [`check_file`], or the file cannot be read or is longer.
pub fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    check_file(path)?;
    let mut content = Vec::new();
    // One byte more tells a file that is too long from one that fits.
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("is longer than {most} bytes")));
    }
    Ok(content)
}

/// Whether a file that settings name can be read: it exists, and is neither a folder nor a pipe or device, whose reader could wait for
/// ever.
///
/// # Errors
/// It is none, or its metadata cannot be read.
pub fn check_file(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() {
        Ok(())
    } else {
        Err(io::Error::other("is not a regular file"))
    }
}

/// The content of a file that holds one value, without one trailing line end.
pub(super) fn value_file(path: &str) -> Result<String, String> {
    let text = text_of(Path::new(path), VALUE_FILE_BYTES).map_err(|error| format!("cannot read that file: {error}"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        Err("that file is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}
