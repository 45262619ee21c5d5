//! Fuzzing on the stable toolchain: mutated seeds, for a time, until one fails or memory grows.
//!
//! proptest chooses the inputs and reduces one that failed to few mutations. `FUZZ_SECONDS` is the time of each target (2 s by
//! default). Seeds are the golden files of the contract and the corpus in `tests/tests/fuzz/corpus/<target>`; an input that failed
//! belongs there.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::servers::child::resident_bytes;

/// Growth of the process that is a leak, and not the allocator's reserve.
const GROWTH_MAX_BYTES: u64 = 96 << 20;
/// The longest input, in bytes; no reader of the product accepts a longer one.
const INPUT_MAX: usize = 128 * 1024;
/// Mutations of one input.
const MUTATIONS_MAX: usize = 6;
/// Inputs between two looks at the clock.
const BATCH: u32 = 256;

/// The inputs of one target.
#[derive(Debug)]
pub struct Fuzz {
    target: String,
    seeds: Arc<Vec<Vec<u8>>>,
    inputs: BoxedStrategy<Input>,
    runner: TestRunner,
    started: Instant,
    until: Instant,
    tried: usize,
    resident_at_start: u64,
}

/// Printed as text when it fails.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Fuzz {
    /// A target with its corpus, and with `seeds` of its own.
    pub fn new(target: &str, seeds: impl IntoIterator<Item = Vec<u8>>) -> Result<Self> {
        let seconds = std::env::var("FUZZ_SECONDS").ok();
        let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(2);
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(target);
        let mut seeds: Vec<_> = seeds.into_iter().collect();
        seeds.extend(files(&corpus, "")?);
        ensure!(!seeds.is_empty(), "no seeds for {target}");
        let seeds = Arc::new(seeds);
        let config = Config {
            cases: BATCH,
            failure_persistence: None,
            ..Config::default()
        };
        Ok(Self {
            target: target.to_owned(),
            inputs: inputs(Arc::clone(&seeds)),
            seeds,
            runner: TestRunner::new(config),
            started: Instant::now(),
            until: Instant::now() + Duration::from_secs(seconds),
            tried: 0,
            resident_at_start: 0,
        })
    }

    /// Gives every seed and then mutated ones to `check`, until the time is over.
    /// Fails with the reduced input for which `check` panics, or if memory has grown.
    ///
    /// # Panics
    /// As `check` does on a seed.
    pub fn run(mut self, check: impl Fn(&[u8])) -> Result<()> {
        self.seeds.iter().for_each(|seed| check(seed));
        self.resident_at_start = resident_bytes(std::process::id()).unwrap_or_default();
        let tried = Cell::new(0);
        while Instant::now() < self.until {
            // A runner never checks more inputs than those of one batch.
            let (config, rng) = (self.runner.config().clone(), self.runner.new_rng());
            let checked = TestRunner::new_with_rng(config, rng).run(&self.inputs, |Input(input)| {
                tried.set(tried.get() + 1);
                check(&input);
                Ok(())
            });
            checked.map_err(|failure| anyhow!("{}: {failure}", self.target))?;
        }
        self.tried = tried.get();
        self.finish()
    }

    /// The next JSON document, for targets that wait or have a state; the seeds themselves come first. `None` when the time is over.
    pub fn next_json(&mut self) -> Option<Value> {
        loop {
            let input = match self.seeds.get(self.tried) {
                Some(seed) => seed.clone(),
                None if Instant::now() < self.until => self.inputs.new_tree(&mut self.runner).ok()?.current().0,
                None => return None,
            };
            self.tried += 1;
            if self.tried == self.seeds.len() {
                self.resident_at_start = resident_bytes(std::process::id()).unwrap_or_default();
            }
            if let Ok(value) = serde_json::from_slice(&input) {
                return Some(value);
            }
        }
    }

    /// Prints the figures, and checks the memory, after the last input.
    #[expect(clippy::print_stdout, reason = "shown with --nocapture")]
    pub fn finish(self) -> Result<()> {
        let grown = resident_bytes(std::process::id())
            .unwrap_or_default()
            .saturating_sub(self.resident_at_start);
        println!(
            "{}: {} inputs in {:.0?}, {grown} bytes more",
            self.target,
            self.tried,
            self.started.elapsed()
        );
        ensure!(
            grown <= GROWTH_MAX_BYTES,
            "{}: {grown} bytes more after {} inputs",
            self.target,
            self.tried
        );
        Ok(())
    }

    /// The inputs so far.
    pub fn tried(&self) -> usize {
        self.tried
    }
}

/// A seed, and mutations of it that proptest can leave out one by one.
fn inputs(seeds: Arc<Vec<Vec<u8>>>) -> BoxedStrategy<Input> {
    let mutations = proptest::collection::vec(proptest::num::u64::ANY, 1..=MUTATIONS_MAX);
    // Mostly well-formed: the readers refuse other text early.
    let as_json = proptest::bool::weighted(0.75);
    (0..seeds.len(), mutations, as_json)
        .prop_map(move |(seed, mutations, as_json)| {
            let seed = seeds.get(seed).cloned().unwrap_or_default();
            let rngs = mutations.into_iter().map(StdRng::seed_from_u64);
            let document = serde_json::from_slice::<Value>(&seed).ok().filter(|_| as_json);
            let mut input = match document {
                Some(value) => {
                    let value = rngs.fold(value, |value, mut rng| mutated_json(value, &mut rng));
                    serde_json::to_vec(&value).unwrap_or_default()
                }
                None => rngs.fold(seed, |input, mut rng| mutated_bytes(input, &seeds, &mut rng)),
            };
            input.truncate(INPUT_MAX);
            Input(input)
        })
        .boxed()
}

/// The files of a folder whose names begin with `prefix`; none if it does not exist.
pub fn files(folder: &Path, prefix: &str) -> Result<Vec<Vec<u8>>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix)
    });
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}

/// The golden files of the contract whose names begin with `prefix`.
pub fn golden(prefix: &str) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nats/tests/golden");
    let found = files(&folder, prefix)?;
    ensure!(!found.is_empty(), "no golden file {prefix}*");
    Ok(found)
}

fn mutated_bytes(mut input: Vec<u8>, seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let at = rng.random_range(0..=input.len());
    match rng.random_range(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, rng.random()),
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        3 => {
            let other = seeds.choose(rng).cloned().unwrap_or_default();
            input.truncate(at);
            input.extend(other.iter().skip(at));
        }
        4 => {
            let piece = input.get(at..).unwrap_or_default().to_vec();
            let times = rng.random_range(1..50);
            if piece.len() * times < INPUT_MAX {
                input.extend(piece.repeat(times));
            }
        }
        _ => {
            let piece: &[u8] = [&b"\0"[..], b"\xff", b"\"", b"{", b"]", b"\\u0000", b".", b"\r\n"]
                .choose(rng)
                .copied()
                .unwrap_or_default();
            input.splice(at..at, piece.iter().copied());
        }
    }
    input
}

fn mutated_json(mut value: Value, rng: &mut StdRng) -> Value {
    if value.to_string().len() > INPUT_MAX / 2 {
        return value;
    }
    let mut paths = Vec::new();
    collect_paths(&value, &mut String::new(), &mut paths);
    let path = paths.choose(rng).cloned().unwrap_or_default();
    let other = paths.choose(rng).and_then(|path| value.pointer(path).cloned());
    if let Some(node) = value.pointer_mut(&path) {
        mutate(node, other, rng);
    }
    value
}

fn collect_paths(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    paths.push(path.clone());
    let length = path.len();
    let mut visit = |key: &str, inner: &Value| {
        path.push('/');
        path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        collect_paths(inner, path, paths);
        path.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, inner)| visit(key, inner)),
        Value::Array(items) => {
            let items = items.iter().take(16).enumerate();
            items.for_each(|(index, inner)| visit(&index.to_string(), inner));
        }
        _ => {}
    }
}

fn mutate(node: &mut Value, other: Option<Value>, rng: &mut StdRng) {
    match node {
        Value::Object(fields) if rng.random_ratio(1, 2) => mutate_fields(fields, other, rng),
        Value::Array(items) if rng.random_ratio(1, 2) => {
            let at = rng.random_range(0..=items.len());
            match rng.random_range(0..3) {
                0 if at < items.len() => drop(items.remove(at)),
                1 => items.insert(at, other.unwrap_or_default()),
                _ => {
                    let copies = items.first().cloned();
                    let bytes = copies.as_ref().map_or(1, |copy| copy.to_string().len());
                    let most = rng.random_range(1..300).min(INPUT_MAX / bytes);
                    items.extend(copies.into_iter().cycle().take(most));
                }
            }
        }
        Value::Number(number) if rng.random_ratio(1, 2) => {
            let near = number
                .as_i64()
                .unwrap_or_default()
                .wrapping_add(rng.random_range(-2..=2));
            *node = json!(near);
        }
        Value::String(text) if rng.random_ratio(1, 2) => {
            let at = rng.random_range(0..=text.chars().count());
            let head: String = text.chars().take(at).collect();
            let tail: String = text.chars().skip(at + rng.random_range(0..2)).collect();
            let between = ["", "a", "音", "\u{0}", ".", "*", ":", "-", "é", "%", "\n"]
                .choose(rng)
                .copied();
            *node = json!(format!("{head}{}{tail}", between.unwrap_or_default()));
        }
        _ => *node = interesting(other, rng),
    }
}

fn mutate_fields(fields: &mut Map<String, Value>, other: Option<Value>, rng: &mut StdRng) {
    let keys: Vec<String> = fields.keys().cloned().collect();
    let Some(key) = keys.choose(rng) else {
        return drop(fields.insert("unheard".to_owned(), other.unwrap_or_default()));
    };
    match rng.random_range(0..3) {
        0 => drop(fields.remove(key)),
        1 => {
            let value = fields.remove(key).unwrap_or_default();
            fields.insert(key.to_uppercase(), value);
        }
        _ => drop(fields.insert(key.clone(), interesting(other, rng))),
    }
}

/// Values that readers stumble over.
fn interesting(other: Option<Value>, rng: &mut StdRng) -> Value {
    match rng.random_range(0..8) {
        0 => other.unwrap_or_default(),
        1 => json!(rng.random::<u64>() >> rng.random_range(0..64)),
        2 => json!(rng.random::<i64>()),
        3 => [0.5, -0.0, 1e9, 1e300, 5e-324, 4_294_967_296.0]
            .choose(rng)
            .map_or(Value::Null, |number| json!(number)),
        4 => json!([u32::MAX, 0, 255, 256, 65_535].choose(rng)),
        5 => json!("x".repeat(rng.random_range(0..3_000))),
        6 => [json!(null), json!(true), json!([]), json!({}), json!("")]
            .choose(rng)
            .cloned()
            .unwrap_or_default(),
        _ => {
            let depth = rng.random_range(1..140);
            (0..depth).fold(json!(1), |inner, _| json!([inner]))
        }
    }
}

/// The fields of a JSON object as environment variables with `prefix`, as far as a process can be given them.
pub fn variables(prefix: &str, input: &[u8]) -> Vec<(String, String)> {
    let fields = serde_json::from_slice::<Value>(input).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    fields
        .filter(|(key, _)| !key.contains(['\0', '=']))
        .map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (format!("{prefix}__{key}"), value.replace('\0', ""))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn fuzz() -> Fuzz {
        Fuzz::new("none", [br#"{"a":[1,"b"],"c":{"d":null}}"#.to_vec()]).unwrap()
    }

    #[test]
    fn inputs_differ() {
        let mut fuzz = fuzz();
        fuzz.until = Instant::now() + Duration::from_secs(600);
        let inputs = std::iter::from_fn(|| fuzz.next_json()).take(500);
        let different: HashSet<_> = inputs.map(|input| input.to_string()).collect();
        assert!(different.len() > 250, "{}", different.len());
    }

    #[test]
    fn a_panic_is_found_and_its_input_reduced() {
        let panics = |input: &[u8]| assert!(!input.starts_with(b"{\"A\""));
        let failure = fuzz().run(panics).unwrap_err().to_string();
        assert!(failure.contains(r#"{"A""#) || failure.contains(r#""A":"#), "{failure}");
    }

    #[test]
    fn growth_is_found() {
        let mut grown = fuzz();
        grown.resident_at_start = 1;
        let ballast = vec![1_u8; usize::try_from(GROWTH_MAX_BYTES).unwrap() + 1];
        assert!(grown.finish().is_err(), "{}", ballast.len());
    }
}
