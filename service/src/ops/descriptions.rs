//! The descriptions of all metrics (`# HELP`), from the table in the operations page, which a test compares with the code.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const PAGE: &str = include_str!("../../../docs/src/operations.md");

/// Describes every metric of all services; those of other services are not shown.
pub(super) fn describe() {
    for (name, kind, meaning) in rows() {
        match kind {
            "counter" => describe_counter!(name, meaning),
            "gauge" => describe_gauge!(name, meaning),
            _ => describe_histogram!(name, meaning),
        }
    }
}

/// Name, type and meaning.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `callpulse_"));
    rows.filter_map(|row| {
        let mut cells = row.split(" | ").map(str::trim);
        let name = cells.next()?.trim_start_matches("| ").trim_matches('`');
        let (kind, _labels, meaning) = (cells.next()?, cells.next()?, cells.next()?);
        Some((name, kind, meaning.replace('`', "")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_type_and_a_meaning() {
        let mut count = 0;
        for (name, kind, meaning) in rows() {
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{name}: {kind}");
            assert!(!meaning.is_empty() && !meaning.contains('|'), "{name}: {meaning}");
            count += 1;
        }
        assert!(count > 50, "{count}");
    }
}
