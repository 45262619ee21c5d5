//! Values of a JSON schema.

use serde_json::{Map, Value, json};

/// The schema behind references, and of several the first.
fn resolved<'a>(root: &'a Value, part: &'a Value) -> &'a Value {
    if let Some(reference) = part["$ref"].as_str() {
        return resolved(root, &root["$defs"][reference.trim_start_matches("#/$defs/")]);
    }
    match part["anyOf"].get(0).or(part["oneOf"].get(0)) {
        Some(first) if part.get("properties").is_none() => resolved(root, first),
        _ => part,
    }
}

/// A value that `part` of the schema accepts, with all fields. No two fields of an object are equal, where the schema allows it.
pub(crate) fn of(root: &Value, part: &Value) -> Value {
    field(root, part, "id_1", 1)
}

/// The value of the field `name`, which is the `position`th.
fn field(root: &Value, part: &Value, name: &str, position: u64) -> Value {
    let part = resolved(root, part);
    if let Some(constant) = part.get("const").or(part["enum"].get(0)) {
        return constant.clone();
    }
    match part["type"].get(0).unwrap_or(&part["type"]).as_str() {
        Some("string") if part["format"] == "date-time" => json!(format!("2025-01-15T12:02:{position:02}.123Z")),
        // All golden files are about one call, which tests of the browser library rely on.
        Some("string") if name == "callId" => json!("call_abc123"),
        Some("string") if name == "userId" => json!("user_001"),
        Some("string") if name == "otomoId" => json!("otomo_777"),
        Some("string") => json!(name),
        Some("integer" | "number") => json!(part["minimum"].as_u64().unwrap_or_default() + position),
        Some("boolean") => json!(true),
        Some("array") => json!([field(root, &part["items"], name, position)]),
        _ => {
            let fields = part["properties"].as_object().into_iter().flatten().zip(1..);
            let fields: Map<_, _> = fields
                .map(|((name, part), position)| (name.clone(), field(root, part, name, position)))
                .collect();
            Value::Object(fields)
        }
    }
}

/// The fields of `part` of the schema that none of these values has.
pub(crate) fn missing(root: &Value, part: &Value, values: &[&Value]) -> Vec<String> {
    let part = resolved(root, part);
    let fields = part["properties"].as_object().into_iter().flatten();
    let missing = fields.flat_map(|(name, field)| {
        let found: Vec<&Value> = values
            .iter()
            .filter_map(|value| value.get(name))
            .filter(|value| !value.is_null())
            .collect();
        if found.is_empty() {
            return vec![name.clone()];
        }
        let inside = self::missing(root, field, &found).into_iter();
        inside.map(|inside| format!("{name}.{inside}")).collect()
    });
    missing.collect()
}
