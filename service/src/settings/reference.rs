//! The configuration reference: a table of all keys, from the settings' type and their defaults.
//!
//! The doc comment of a field is the meaning of its key, and the end of a key's name is its unit. A test of each service compares
//! the table with its page in `docs/src/configuration`.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

use super::bounds::unit;

/// A key.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) type_name: String,
    pub(super) default: String,
    pub(super) unit: &'static str,
    pub(super) meaning: String,
    pub(super) secret: bool,
}

impl Row {
    /// The names of the tables, then that of the value.
    pub(super) fn path(&self) -> impl Iterator<Item = &str> {
        self.key.split('.')
    }
}

/// The table, in Markdown: key, type, default, unit and meaning, in alphabetical order.
pub fn markdown<S: JsonSchema + Serialize + Default>() -> String {
    let head = [
        "| key | type | default | unit | meaning |",
        "| --- | --- | --- | --- | --- |",
    ];
    let rows = rows::<S>().into_iter().map(|row| {
        let meaning = row.meaning.replace('|', "\\|");
        format!(
            "| `{}` | {} | {} | {} | {meaning} |",
            row.key, row.type_name, row.default, row.unit
        )
    });
    let lines: Vec<String> = head.map(str::to_owned).into_iter().chain(rows).collect();
    lines.join("\n") + "\n"
}

/// All keys, in alphabetical order.
pub(super) fn rows<S: JsonSchema + Serialize + Default>() -> Vec<Row> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<S>();
    let defaults = serde_json::to_value(S::default()).unwrap_or_default();
    let mut rows = Vec::new();
    add_rows("", schema.as_value(), &defaults, &mut rows);
    rows
}

fn add_rows(table: &str, schema: &Value, defaults: &Value, rows: &mut Vec<Row>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (name, property) in properties {
        let key = format!("{table}{name}");
        let default = defaults.get(name).unwrap_or(&Value::Null);
        if property.get("properties").is_some() {
            add_rows(&format!("{key}."), property, default, rows);
            continue;
        }
        rows.push(Row {
            key,
            type_name: type_name(property),
            default: default_text(default),
            unit: unit(name).0,
            meaning: meaning(property),
            secret: property.get("writeOnly") == Some(&Value::Bool(true)),
        });
    }
}

fn type_name(schema: &Value) -> String {
    let one = |name: &str| match name {
        "array" => "list of strings".to_owned(),
        other => other.to_owned(),
    };
    let values: Vec<_> = values(schema)
        .into_iter()
        .map(|(value, _)| format!("`{value}`"))
        .collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    match schema.get("type") {
        Some(Value::String(name)) => one(name),
        Some(Value::Array(names)) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).map(one).collect();
            names.join(" or ")
        }
        _ => {
            let any = schema.get("anyOf").and_then(Value::as_array);
            any.into_iter()
                .flatten()
                .map(type_name)
                .collect::<Vec<_>>()
                .join(" or ")
        }
    }
}

/// The values of an enumeration, with their meanings. schemars lists values without a doc comment together.
fn values(schema: &Value) -> Vec<(&str, &str)> {
    let listed = |name| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    let plain = listed("enum").filter_map(|value| Some((value.as_str()?, "")));
    let described = listed("oneOf").flat_map(|value| match value.get("const").and_then(Value::as_str) {
        Some(name) => vec![(
            name,
            value.get("description").and_then(Value::as_str).unwrap_or_default(),
        )],
        None => values(value),
    });
    plain.chain(described).collect()
}

fn default_text(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Array(list) if list.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn meaning(schema: &Value) -> String {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut text = description.split_whitespace().collect::<Vec<_>>().join(" ");
    for (value, meaning) in values(schema) {
        if !meaning.is_empty() {
            let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
            text.push_str(&format!(" `{value}`: {meaning}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Secret;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        /// Ends on time.
        Strict,
        Loose,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        /// Waits,
        /// then gives up.
        wait_ms: Option<u64>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Settings {
        /// A | B.
        mode: Mode,
        inner: Inner,
        /// Hidden.
        key: Secret,
        /// Pages.
        origins: Vec<String>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                mode: Mode::Loose,
                inner: Inner { wait_ms: Some(5) },
                key: Secret::default(),
                origins: Vec::new(),
            }
        }
    }

    #[test]
    fn every_key_has_its_type_default_unit_and_meaning() {
        let table = markdown::<Settings>();
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `inner.wait_ms` | integer or null | `5` | ms | Waits, then gives up. |",
                "| `key` | string | empty |  | Hidden. |",
                "| `mode` | `loose`, `strict` | `loose` |  | A \\| B. `strict`: Ends on time. |",
                "| `origins` | list of strings | empty |  | Pages. |",
            ]
        );
    }
}
