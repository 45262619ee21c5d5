//! What the services logged that nobody should have to read: errors, which mean lost data or a person, and panics.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Result;

/// FaultKinds of complaints that are told; beyond them it is a flood, and the logs must be read.
const MOST_KINDS: usize = 50;
/// How much of a line is told, in characters.
const TOLD_CHARS: usize = 300;

/// Errors and panics in the logs of a folder, the alike once with their number.
///
/// # Errors
/// When a log cannot be read.
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
            let told: String = line.chars().take(TOLD_CHARS).collect();
            let kind = (name.clone(), alike(&line));
            if found.len() < MOST_KINDS || found.contains_key(&kind) {
                found.entry(kind).or_insert((0, told)).0 += 1;
            }
        }
    }
    let told =
        |((name, _), (times, line)): ((String, String), (usize, String))| format!("{name} logged {times}×: {line}");
    Ok(found.into_iter().map(told).collect())
}

/// A line without what differs between two of one kind: its time, numbers, identifiers.
fn alike(line: &str) -> String {
    let words = line.split_whitespace().skip(1);
    let words = words.filter(|word| !word.contains(|character: char| character.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_alike_once() {
        let folder = tempfile::tempdir().unwrap();
        let log =
            "T1 ERROR lost: call c1 is lost\nT2 INFO fine\nT3 ERROR lost: call c2 is lost\nthread panicked at x.rs\n";
        fs::write(folder.path().join("ws-edge-1.log"), log).unwrap();
        fs::write(folder.path().join("other.txt"), log).unwrap();
        let told = complaints(folder.path()).unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("ws-edge-1 logged 2×: T1 ERROR"), "{told:?}");
    }
}
