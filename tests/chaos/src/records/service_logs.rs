//! Errors and panics in the logs of the services.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Result;

/// The limit of different lines.
const MOST_KINDS: usize = 50;
/// The characters of a line that are shown.
const SHOWN_CHARS: usize = 300;

/// Errors and panics in the logs of a folder; similar lines once, with their number.
pub fn complaints(folder: &Path) -> Result<Vec<String>> {
    let mut found: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if !(line.contains(" ERROR ") || line.contains("panicked at")) {
                continue;
            }
            let shown: String = line.chars().take(SHOWN_CHARS).collect();
            let kind = (name.clone(), pattern(&line));
            if found.len() < MOST_KINDS || found.contains_key(&kind) {
                found.entry(kind).or_insert((0, shown)).0 += 1;
            }
        }
    }
    let shown =
        |((name, _), (times, line)): ((String, String), (usize, String))| format!("{name} logged {times}×: {line}");
    Ok(found.into_iter().map(shown).collect())
}

/// A line without its time, numbers and identifiers.
fn pattern(line: &str) -> String {
    let tokens = line.split_whitespace().skip(1);
    let tokens = tokens.filter(|token| !token.contains(|character: char| character.is_ascii_digit()));
    tokens.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_lines_are_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let log =
            "T1 ERROR lost: call c1 is lost\nT2 INFO fine\nT3 ERROR lost: call c2 is lost\nthread panicked at x.rs\n";
        fs::write(folder.path().join("ws-edge-1.log"), log).unwrap();
        fs::write(folder.path().join("other.txt"), log).unwrap();
        let shown = complaints(folder.path()).unwrap();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].starts_with("ws-edge-1 logged 2×: T1 ERROR"), "{shown:?}");
    }
}
