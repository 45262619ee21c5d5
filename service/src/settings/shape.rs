//! The shape of settings, as their defaults show it: which keys there are, and what fits each.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::problem::{Origin, Problem, SettingsErrors, without_value};
use super::source::{Given, Raw, value_file};

/// What a key ends in whose value is in a file.
const FILE_SUFFIX: &str = "_file";

/// The defaults of `S`, serialised.
#[derive(Debug)]
pub(super) struct Shape<S> {
    defaults: Value,
    settings: PhantomData<fn() -> S>,
}

/// What stands at a path.
enum Place<'a> {
    /// This default.
    Known(&'a Value),
    /// The inside of `None` or of an empty map: anything may.
    Open,
    /// Nothing.
    Unknown,
}

impl<S: Serialize + DeserializeOwned + Default> Shape<S> {
    pub(super) fn new() -> Result<Self, SettingsErrors> {
        let defaults = serde_json::to_value(S::default());
        match defaults.and_then(|defaults| serde_json::from_value::<S>(defaults.clone()).map(|_| defaults)) {
            Ok(defaults) => Ok(Self {
                defaults,
                settings: PhantomData,
            }),
            Err(error) => {
                let what = format!("the program's own defaults do not read back: {error}");
                Err(SettingsErrors::new(vec![Problem::new(
                    "all keys together",
                    Origin::Default,
                    what,
                )]))
            }
        }
    }
}

impl<S: DeserializeOwned> Shape<S> {
    pub(super) fn defaults(&self) -> &Value {
        &self.defaults
    }

    /// Fits one given value to its key, with all other keys at their defaults. Also says which key that is: not the
    /// given one where it names a file.
    pub(super) fn read(&self, given: Given) -> Result<(Vec<String>, Value), String> {
        let (path, raw, from_file) = match self.file_key(&given) {
            Some((path, file)) => (path, Raw::Text(value_file(file)?), true),
            None => (given.path, given.value, false),
        };
        let default = match self.place(&path) {
            Place::Known(default) => default,
            Place::Open => &Value::Null,
            Place::Unknown => return Err(self.unknown(&path)),
        };
        let candidates = match raw {
            Raw::Typed(value) => vec![value],
            Raw::Text(text) => read_text(&text, default)?,
        };
        let open = matches!(self.place(&path), Place::Open);
        let mut wrong = None;
        for value in candidates {
            let mut probe = self.defaults.clone();
            set(&mut probe, &path, value.clone());
            match serde_json::from_value::<S>(probe) {
                Ok(_) => return Ok((path, value)),
                // The inside of `None` may need several keys; they are judged together, at the end.
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

    /// The key and the path behind a key such as `password_file`.
    fn file_key<'a>(&self, given: &'a Given) -> Option<(Vec<String>, &'a str)> {
        if !matches!(self.place(&given.path), Place::Unknown) {
            return None;
        }
        let (last, parents) = given.path.split_last()?;
        let mut path = parents.to_vec();
        path.push(last.strip_suffix(FILE_SUFFIX)?.to_owned());
        let file = match &given.value {
            Raw::Typed(value) => value.as_str()?,
            Raw::Text(text) => text,
        };
        matches!(self.place(&path), Place::Known(Value::Null | Value::String(_))).then_some((path, file))
    }

    fn place(&self, path: &[String]) -> Place<'_> {
        let mut here = &self.defaults;
        for key in path {
            here = match here {
                Value::Null => return Place::Open,
                Value::Object(keys) if keys.is_empty() => return Place::Open,
                Value::Object(keys) => match keys.get(key) {
                    Some(inside) => inside,
                    None => return Place::Unknown,
                },
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Place::Unknown,
            };
        }
        Place::Known(here)
    }

    fn unknown(&self, path: &[String]) -> String {
        let mut known = Vec::new();
        keys(&self.defaults, "", &mut known);
        let key = path.join(".");
        let nearest = known
            .iter()
            .map(|candidate| (distance(&key, candidate), candidate))
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
        match self.place(table) {
            Place::Known(Value::Object(siblings)) => format!("unknown key; there are {}", listed(siblings)),
            _ => format!(
                "unknown key; there are {}",
                self.defaults.as_object().map(listed).unwrap_or_default()
            ),
        }
    }
}

/// Puts `value` at `path`, making the tables on the way.
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

/// What a text may mean where `default` stands, the likeliest first.
fn read_text(text: &str, default: &Value) -> Result<Vec<Value>, String> {
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

/// A bool or a number where the text is one, else the text.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => text.into(),
    }
}

/// Shows what would be right: the default, which is in the program's text and no secret.
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

/// How many characters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (above, to) in row.windows(2).zip(b.chars()) {
            if let (&[diagonal, up], Some(&left)) = (above, next.last()) {
                next.push((diagonal + usize::from(from != to)).min(up + 1).min(left + 1));
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
