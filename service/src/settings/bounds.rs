//! Upper bounds of every number in the settings, by the unit at the end of its key. A setting that needs a tighter bound checks it
//! itself; none can be without one.

use serde_json::Value;

/// The bound of each unit, and its reason in words.
const BOUNDS: [(&str, u64, &str); 4] = [
    ("_ms", 7 * 24 * 3_600_000, "7 days"),
    ("_s", 7 * 24 * 3_600, "7 days"),
    ("_bytes", 16 * 1024 * 1024, "16 MiB"),
    ("_per_second", 1_000_000, "a million"),
];

/// The bound of all other numbers, such as numbers of connections.
const OTHERS: (u64, &str) = (1_000_000, "a million");

/// The numbers of serialised settings that exceed their bound, each as `key: message`.
pub(super) fn exceeded(settings: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    visit("", settings, &mut wrong);
    wrong
}

fn visit(key: &str, value: &Value, wrong: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            for (name, inside) in table {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                visit(&key, inside, wrong);
            }
        }
        Value::Array(list) => list.iter().for_each(|inside| visit(key, inside, wrong)),
        Value::Number(number) => {
            let unit = BOUNDS.iter().find(|(suffix, ..)| key.ends_with(suffix));
            let (most, words) = unit.map_or(OTHERS, |(_, most, words)| (*most, *words));
            let fits = match number.as_u64() {
                Some(number) => number <= most,
                #[allow(clippy::cast_precision_loss, reason = "the bounds are small")]
                None => number.as_f64().is_some_and(|number| number.abs() <= most as f64),
            };
            if !fits {
                wrong.push(format!("{key}: is at most {most} ({words})"));
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_number_has_the_bound_of_its_unit() {
        let at_most = json!({
            "wait_ms": 604_800_000, "a": { "leeway_s": 604_800, "read_bytes": 16_777_216, "per_second": 1_000_000 },
            "ratio": -0.5, "list_ms": [1], "no": null, "text": "18446744073709551615",
        });
        assert_eq!(exceeded(&at_most), Vec::<String>::new());
        let beyond = json!({
            "wait_ms": 604_800_001, "a": { "leeway_s": u64::MAX, "read_bytes": 1_u64 << 63, "messages_per_second": 1_000_001 },
            "connections": 1_000_001, "ratio": -1e300, "list_ms": [1, 604_800_001],
        });
        let keys: Vec<_> = exceeded(&beyond)
            .iter()
            .map(|line| line.split(':').next().unwrap().to_owned())
            .collect();
        let expected = [
            "a.leeway_s",
            "a.messages_per_second",
            "a.read_bytes",
            "connections",
            "list_ms",
            "ratio",
            "wait_ms",
        ];
        assert_eq!(keys, expected);
    }
}
