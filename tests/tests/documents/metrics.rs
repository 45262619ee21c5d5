//! The table of metrics in the operations page has every metric of the code, with its type and labels.

use std::collections::BTreeMap;
use std::fs;

use crate::{files, read, workspace};

/// Type and labels, by name.
type Metrics = BTreeMap<String, String>;

/// Finds `counter!("callpulse_…", "label" => …)` and the like.
fn of_code() -> Metrics {
    let mut found = Metrics::new();
    for service in ["nats", "service", "media-worker", "ws-edge", "billing-timer"] {
        for file in files(&workspace().join(service).join("src"), "rs") {
            let text = fs::read_to_string(file).unwrap();
            for kind in ["counter", "gauge", "histogram"] {
                for call in text.split(&format!("{kind}!(")).skip(1) {
                    let strings: Vec<_> = call.split(')').next().unwrap().split('"').collect();
                    let Some(name) = strings.get(1).filter(|name| name.starts_with("callpulse_")) else {
                        continue;
                    };
                    let labels = strings
                        .windows(2)
                        .skip(2)
                        .filter(|pair| pair[1].trim_start().starts_with("=>"));
                    let labels: Vec<_> = labels.map(|pair| format!("`{}`", pair[0])).collect();
                    found.insert((*name).to_owned(), format!("{kind} | {}", labels.join(", ")));
                }
            }
        }
    }
    found
}

fn of_page() -> Metrics {
    let page = read("docs/src/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `callpulse_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        let name = cells[0].trim_end_matches('`');
        (
            format!("callpulse_{name}"),
            format!("{} | {}", cells[1], cells[2].trim()),
        )
    })
    .collect()
}

#[test]
fn the_table_of_metrics_is_complete() {
    assert_eq!(of_page(), of_code());
}
