//! Registers the descriptions of all metrics (`# HELP`) and the counters without labels, from the table in the operations page. A
//! test compares it with the code.

use metrics::{describe_counter, describe_gauge, describe_histogram};

use crate::app::App;

const PAGE: &str = include_str!("../../../docs/src/operations.md");

/// Describes every metric of all services; those of other services are not shown.
pub(super) fn describe() {
    for Row {
        name, kind, meaning, ..
    } in rows()
    {
        match kind {
            "counter" => describe_counter!(name, meaning),
            "gauge" => describe_gauge!(name, meaning),
            _ => describe_histogram!(name, meaning),
        }
    }
}

/// Creates the counters of a service that have no labels, because a counter that first appears with its first event has no rate.
/// Those with labels are created by their service, which knows their values.
pub(super) fn create_counters(app: App) {
    let counters = rows().filter(|row| row.kind == "counter" && row.labels.is_empty());
    for row in counters.filter(|row| is_of(row.name, app)) {
        metrics::counter!(row.name).increment(0);
    }
}

/// Whether a service has this metric: its prefix names the service, or none.
fn is_of(name: &str, app: App) -> bool {
    let owners = [
        ("callpulse_billing_", "billing-timer"),
        ("callpulse_media_", "media-worker"),
        ("callpulse_ws_", "ws-edge"),
        ("callpulse_ops_", "ws-edge"),
        ("callpulse_page_", "ws-edge"),
    ];
    let owner = owners.iter().find(|(prefix, _)| name.starts_with(prefix));
    owner.is_none_or(|(_, owner)| *owner == app.name())
}

struct Row {
    name: &'static str,
    kind: &'static str,
    labels: &'static str,
    meaning: String,
}

fn rows() -> impl Iterator<Item = Row> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `callpulse_"));
    rows.filter_map(|row| {
        let mut cells = row.split(" | ").map(str::trim);
        let name = cells.next()?.trim_start_matches("| ").trim_matches('`');
        let (kind, labels, meaning) = (cells.next()?, cells.next()?, cells.next()?);
        Some(Row {
            name,
            kind,
            labels,
            meaning: meaning.replace('`', ""),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_type_and_a_meaning() {
        let mut count = 0;
        for Row {
            name, kind, meaning, ..
        } in rows()
        {
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{name}: {kind}");
            assert!(!meaning.is_empty() && !meaning.contains('|'), "{name}: {meaning}");
            count += 1;
        }
        assert!(count > 50, "{count}");
    }
    #[test]
    fn a_service_has_its_own_counters_and_those_of_all() {
        let timer = App::new("billing-timer", "1");
        assert!(is_of("callpulse_billing_ticks_total", timer) && is_of("callpulse_panics_total", timer));
        assert!(!is_of("callpulse_ws_notices_total", timer));
    }
}
