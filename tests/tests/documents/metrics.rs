//! The table of metrics in the operations page has every metric of the code, with its type and labels.

use std::collections::BTreeSet;
use std::fs;

use crate::{files, read, workspace};

/// A row each: name, type, labels.
type Metrics = BTreeSet<String>;

/// The text up to the parenthesis that closes the macro call.
fn arguments(call: &str) -> &str {
    let mut depth = 1;
    let end = call.find(|character| {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    &call[..end.unwrap()]
}

/// Finds `counter!("callpulse_…", "label" => …)` and the like.
fn of_code() -> Metrics {
    let mut found = Metrics::new();
    for service in ["nats", "service", "media-worker", "ws-edge", "billing-timer"] {
        for file in files(&workspace().join(service).join("src"), "rs") {
            let text = fs::read_to_string(file).unwrap();
            for kind in ["counter", "gauge", "histogram"] {
                for call in text.split(&format!("{kind}!(")).skip(1) {
                    let strings: Vec<_> = arguments(call).split('"').collect();
                    let Some(name) = strings.get(1).filter(|name| name.starts_with("callpulse_")) else {
                        continue;
                    };
                    let labels = strings
                        .windows(2)
                        .skip(2)
                        .filter(|pair| pair[1].trim_start().starts_with("=>"));
                    let labels: Vec<_> = labels.map(|pair| format!("`{}`", pair[0])).collect();
                    found.insert(format!("{name} | {kind} | {}", labels.join(", ")));
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
        let (name, labels) = (cells[0].trim_end_matches('`'), cells[2].trim());
        format!("callpulse_{name} | {} | {labels}", cells[1])
    })
    .collect()
}

#[test]
fn the_table_of_metrics_is_complete() {
    let (page, code) = (of_page(), of_code());
    let missing: Vec<_> = code.difference(&page).collect();
    let obsolete: Vec<_> = page.difference(&code).collect();
    assert!(
        missing.is_empty() && obsolete.is_empty(),
        "missing: {missing:#?}, obsolete: {obsolete:#?}"
    );
}
