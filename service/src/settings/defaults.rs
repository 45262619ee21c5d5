//! Default settings: the keys that exist, and the types that their values accept.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use strsim::levenshtein;

use super::error::{Origin, SettingError, SettingsErrors, without_value};
use super::source::{Entry, RawValue, value_file};

/// Suffix of a key whose value is in a file.
const FILE_SUFFIX: &str = "_file";

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
            Lookup::Known(default) => default,
            Lookup::Open => &Value::Null,
            Lookup::Unknown => return Err(self.unknown(&path)),
        };
        let candidates = match raw {
            RawValue::Typed(value) => vec![value],
            RawValue::Text(text) => parse_text(&text, default)?,
        };
        let open = matches!(self.lookup(&path), Lookup::Open);
        let mut wrong = None;
        for value in candidates {
            let mut probe = self.json.clone();
            set(&mut probe, &path, value.clone());
            match serde_json::from_value::<S>(probe) {
                Ok(_) => return Ok((path, value)),
                // A table inside `None` may need several keys; they are checked together, at the end.
                Err(_) if open => return Ok((path, value)),
                Err(error) => {
                    wrong.get_or_insert_with(|| without_value(&error, Some(&value)));
                }
            }
        }
        let wrong = wrong.unwrap_or_else(|| "has no value".to_owned());
        let wrong = if from_file {
            format!("the content of that file does not fit: {wrong}")
        } else {
            wrong
        };
        Err(format!("{wrong}{}", example(default)))
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
            return format!("unknown key; did you mean {nearest}?");
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

/// The values that a text may stand for, by the type of `default`, the likeliest first.
fn parse_text(text: &str, default: &Value) -> Result<Vec<Value>, String> {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match default {
        Value::Bool(_) => match text {
            "true" => Ok(vec![Value::Bool(true)]),
            "false" => Ok(vec![Value::Bool(false)]),
            _ => Err(format!("expected true or false{}", example(default))),
        },
        Value::Number(_) => match scalar(text.trim()) {
            number @ Value::Number(_) => Ok(vec![number]),
            _ => Err(format!("expected a number{}", example(default))),
        },
        Value::String(_) => Ok(vec![text.into()]),
        Value::Array(_) => Ok(vec![parts().collect(), parts().map(scalar).collect()]),
        Value::Null => Ok(vec![text.into(), scalar(text.trim()), parts().collect()]),
        Value::Object(inside) => Err(format!("is a table; set the keys in it: {}", listed(inside))),
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
