//! Default settings: the keys that exist, and the types that their values accept.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use strsim::levenshtein;

use super::error::{Origin, SettingError, SettingsErrors, without_value};
use super::source::{Entry, RawValue, value_file};

/// Suffix of a key whose value is in a file.
const FILE_SUFFIX: &str = "_file";

/// The text that stands for null, which neither TOML nor a variable has.
pub(super) const NULL: &str = "null";

/// The defaults of `S`, serialised.
#[derive(Debug)]
pub(super) struct Defaults<S> {
    json: Value,
    settings: PhantomData<fn() -> S>,
}

/// What the defaults have at a path.
enum Lookup<'a> {
    /// This value.
    Known(&'a Value),
    /// The path is inside `None` or an empty map, where any key is allowed.
    Open,
    /// There is no such key.
    Unknown,
}

impl<S: Serialize + DeserializeOwned + Default> Defaults<S> {
    pub(super) fn new() -> Result<Self, SettingsErrors> {
        let defaults = serde_json::to_value(S::default());
        match defaults.and_then(|json| serde_json::from_value::<S>(json.clone()).map(|_| json)) {
            Ok(json) => Ok(Self {
                json,
                settings: PhantomData,
            }),
            Err(error) => {
                let message = format!("the program's own defaults do not read back: {error}");
                Err(SettingsErrors::new(vec![SettingError::new(
                    "all keys together",
                    Origin::Default,
                    message,
                )]))
            }
        }
    }
}

impl<S: DeserializeOwned> Defaults<S> {
    pub(super) fn json(&self) -> &Value {
        &self.json
    }

    /// Converts one entry to its key's type, with all other keys at their defaults. Returns the path too: `password` for an
    /// entry `password_file`.
    pub(super) fn convert(&self, entry: Entry) -> Result<(Vec<String>, Value), String> {
        let (path, raw, from_file) = match self.file_key(&entry) {
            Some((path, file)) => (path, RawValue::Text(value_file(file)?), true),
            None => (entry.path, entry.value, false),
        };
        let default = match self.lookup(&path) {
            // A table of a file was split into its keys.
            Lookup::Known(Value::Object(keys)) if !keys.is_empty() => {
                let (head, keys) = (path.join("."), listed(keys));
                return Err(match raw {
                    RawValue::Typed(_) => format!("is a table, [{head}]; set the keys in it: {keys}"),
                    RawValue::Text(_) => format!("is a table; set the keys in it: {keys}"),
                });
            }
            Lookup::Known(default) => default,
            Lookup::Open if self.is_table(&path) => &Value::Null,
            Lookup::Open | Lookup::Unknown => return Err(self.unknown(&path)),
        };
        // The content of a file is never null: a secret may be this very word.
        let is_optional = !from_file && self.check(&path, &Value::Null).is_ok();
        let (candidates, null) = match raw {
            RawValue::Typed(Value::String(text)) | RawValue::Text(text) if is_optional && text == NULL => {
                return Ok((path, Value::Null));
            }
            // JSON has no NaN.
            RawValue::Typed(Value::Null) => return Err(format!("expected a finite value{}", example(default))),
            RawValue::Typed(value) => (vec![value], ", or \"null\""),
            RawValue::Text(text) => (parse_text(&text, default), ", or null"),
        };
        let mut wrong = None;
        for value in candidates {
            match self.check(&path, &value) {
                Ok(()) => return Ok((path, value)),
                // A table in place of `None` may need several keys; they are checked together, at the end.
                Err(error) if is_incomplete(&error) => return Ok((path, value)),
                Err(error) => {
                    let is_in_list = value.is_array() && default.is_array();
                    let before = if is_in_list { "in the list: " } else { "" };
                    wrong.get_or_insert_with(|| format!("{before}{}", without_value(&error, Some(&value))));
                }
            }
        }
        let mut wrong = wrong.unwrap_or_else(|| "has no value".to_owned());
        if is_optional && wrong.starts_with("expected ") {
            wrong.push_str(null);
        }
        let before = if from_file { "in that file: " } else { "" };
        Err(format!("{before}{wrong}{}", example(default)))
    }

    /// Whether the value fits, with all other keys at their defaults.
    fn check(&self, path: &[String], value: &Value) -> Result<(), serde_json::Error> {
        let mut probe = self.json.clone();
        set(&mut probe, path, value.clone());
        serde_json::from_value::<S>(probe).map(|_| ())
    }

    /// Whether a path that the defaults leave open is inside a table.
    fn is_table(&self, path: &[String]) -> bool {
        let table = path.split_last().map(|(_, table)| table).unwrap_or_default();
        let checked = self.check(table, &Value::Object(Map::new()));
        checked.map_or_else(|error| is_incomplete(&error), |()| true)
    }

    /// For a key such as `password_file`: the path of `password`, and the file.
    fn file_key<'a>(&self, entry: &'a Entry) -> Option<(Vec<String>, &'a str)> {
        if !matches!(self.lookup(&entry.path), Lookup::Unknown) {
            return None;
        }
        let (last, parents) = entry.path.split_last()?;
        let mut path = parents.to_vec();
        path.push(last.strip_suffix(FILE_SUFFIX)?.to_owned());
        let file = match &entry.value {
            RawValue::Typed(value) => value.as_str()?,
            RawValue::Text(text) => text,
        };
        matches!(self.lookup(&path), Lookup::Known(Value::Null | Value::String(_))).then_some((path, file))
    }

    fn lookup(&self, path: &[String]) -> Lookup<'_> {
        let mut here = &self.json;
        for key in path {
            here = match here {
                Value::Null => return Lookup::Open,
                Value::Object(keys) if keys.is_empty() => return Lookup::Open,
                Value::Object(keys) => match keys.get(key) {
                    Some(inside) => inside,
                    None => return Lookup::Unknown,
                },
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Lookup::Unknown,
            };
        }
        Lookup::Known(here)
    }

    fn unknown(&self, path: &[String]) -> String {
        let is_value = |table: &[String]| matches!(self.lookup(table), Lookup::Known(value) if !value.is_object());
        let mut tables = (1..path.len()).filter_map(|length| path.get(..length));
        if let Some(value) = tables.find(|table| is_value(table)) {
            return format!("unknown key; {} is not a table", value.join("."));
        }
        let mut known = Vec::new();
        keys(&self.json, "", &mut known);
        let key = path.join(".");
        let nearest = known
            .iter()
            .map(|candidate| (levenshtein(&key, candidate), candidate))
            .min();
        if let Some((distance, nearest)) = nearest
            && distance <= (key.chars().count() / 4).max(2)
        {
            return match distance {
                0 => format!("unknown key; write {nearest} without quotes, in a variable with __ for the dot"),
                _ => format!("unknown key; did you mean {nearest}?"),
            };
        }
        let same_name = |candidate: &&String| candidate.rsplit('.').next() == path.last().map(String::as_str);
        if let Some(candidate) = known.iter().find(same_name) {
            return format!("unknown key; did you mean {candidate}?");
        }
        let table = path.split_last().map(|(_, parents)| parents).unwrap_or_default();
        match self.lookup(table) {
            Lookup::Known(Value::Object(siblings)) => format!("unknown key; there are {}", listed(siblings)),
            _ => format!(
                "unknown key; there are {}",
                self.json.as_object().map(listed).unwrap_or_default()
            ),
        }
    }
}

/// Sets `value` at `path`, creating the tables on the way.
pub(super) fn set(json: &mut Value, path: &[String], value: Value) {
    let mut here = json;
    for key in path {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        let Value::Object(keys) = here else { return };
        here = keys.entry(key.clone()).or_insert(Value::Null);
    }
    *here = value;
}

/// Whether a table lacks a key, which another source or variable may set.
fn is_incomplete(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("missing field")
}

/// The values that a text may stand for, by the type of `default`, the likeliest first.
fn parse_text(text: &str, default: &Value) -> Vec<Value> {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match default {
        Value::Bool(_) | Value::Number(_) => vec![scalar(text.trim())],
        Value::String(_) | Value::Object(_) => vec![text.into()],
        Value::Array(_) => vec![parts().collect(), parts().map(scalar).collect()],
        Value::Null => vec![text.into(), scalar(text.trim()), parts().collect()],
    }
}

/// A bool or a number if the text is one, else the text.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => text.into(),
    }
}

/// The default as an example. It is part of the program, so it cannot be a secret.
fn example(default: &Value) -> String {
    match default {
        Value::Null | Value::Object(_) => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::Array(list) if list.is_empty() => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => format!("; the default is {default}"),
    }
}

fn listed(keys: &Map<String, Value>) -> String {
    keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn keys(json: &Value, prefix: &str, known: &mut Vec<String>) {
    let Value::Object(inside) = json else { return };
    for (key, value) in inside {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        keys(value, &path, known);
        known.push(path);
    }
}
