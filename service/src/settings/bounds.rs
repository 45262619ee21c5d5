//! Ranges of the numbers in the settings. Every number has an upper bound by the unit at the end of its key; none can be without one.

use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;

/// By the end of a key's name: its unit, and the bound of its value (7 days, 16 MiB, a million).
const UNITS: [(&str, &str, u64); 4] = [
    ("_ms", "ms", 7 * 24 * 3_600_000),
    ("_s", "s", 7 * 24 * 3_600),
    ("_bytes", "bytes", 16 * 1024 * 1024),
    ("_per_second", "per second", 1_000_000),
];

/// No unit, and the bound of all other numbers, such as numbers of connections.
const OTHERS: (&str, u64) = ("", 1_000_000);

/// The range of a number that must not be 0. Its end is the bound of the key's unit.
pub const POSITIVE: RangeInclusive<u64> = 1..=u64::MAX;

/// The unit of a key, and the bound of its value.
pub(super) fn unit(key: &str) -> (&'static str, u64) {
    let unit = UNITS.iter().find(|(suffix, ..)| key.ends_with(suffix));
    unit.map_or(OTHERS, |(_, unit, most)| (unit, *most))
}

/// The keys of `settings` whose whole numbers are outside of their ranges, each as `key: message`. Null is in every range.
pub fn out_of_range(settings: &impl Serialize, ranges: &[(&str, RangeInclusive<u64>)]) -> Vec<String> {
    let settings = serde_json::to_value(settings).unwrap_or_default();
    let is_outside = |key: &str, range: &RangeInclusive<u64>| {
        let value = key.split('.').try_fold(&settings, |table, name| table.get(name));
        let number = value.and_then(Value::as_u64);
        value != Some(&Value::Null) && number.is_none_or(|number| !range.contains(&number) || number > unit(key).1)
    };
    let outside = ranges.iter().filter(|(key, range)| is_outside(key, range));
    outside.map(|(key, range)| problem(key, range)).collect()
}

fn problem(key: &str, range: &RangeInclusive<u64>) -> String {
    let (unit, most) = unit(key);
    let (least, most) = (range.start(), range.end().min(&most));
    let text = format!("{key}: must be from {least} to {most} {unit}");
    text.trim_end().to_owned()
}

/// The numbers of serialised settings that exceed the bound of their unit, each as `key: message`. `key` is that of `value`.
pub(super) fn exceeded(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(table) => table
            .iter()
            .flat_map(|(name, inside)| exceeded(format!("{key}.{name}").trim_start_matches('.'), inside))
            .collect(),
        Value::Array(list) => list.iter().flat_map(|inside| exceeded(key, inside)).collect(),
        Value::Number(number) => {
            let (_, most) = unit(key);
            let fits = match number.as_u64() {
                Some(number) => number <= most,
                #[allow(clippy::cast_precision_loss, reason = "the bounds are small")]
                None => number.as_f64().is_some_and(|number| number.abs() <= most as f64),
            };
            (!fits).then(|| problem(key, &(0..=most))).into_iter().collect()
        }
        Value::Null | Value::Bool(_) | Value::String(_) => Vec::new(),
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
        assert_eq!(exceeded("", &at_most), Vec::<String>::new());
        let beyond = json!({
            "wait_ms": 604_800_001, "a": { "leeway_s": u64::MAX, "read_bytes": 1_u64 << 63, "messages_per_second": 1_000_001 },
            "connections": 1_000_001, "ratio": -1e300, "list_ms": [1, 604_800_001],
        });
        let keys: Vec<_> = exceeded("", &beyond)
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

    #[test]
    fn a_range_is_named_with_its_unit_and_null_has_none() {
        let settings = json!({ "wait_ms": 0, "held_ms": 700_000_000, "limits": { "rate": 5 }, "off_ms": null });
        let ranges = ["wait_ms", "off_ms", "limits.rate", "missing"].map(|key| (key, 1..=4));
        let expected = [
            "wait_ms: must be from 1 to 4 ms",
            "limits.rate: must be from 1 to 4",
            "missing: must be from 1 to 4",
        ];
        assert_eq!(out_of_range(&settings, &ranges), expected);
        let long = out_of_range(&settings, &[("held_ms", POSITIVE)]);
        assert_eq!(long, ["held_ms: must be from 1 to 604800000 ms"]);
    }
}
