//! What was measured, and what it should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::usage;

/// Our name among the servers.
pub const OURS: &str = "callpulse";

/// The figures of one benchmark, as in its file `target/bench/<benchmark>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Its name, such as `notices`.
    pub benchmark: String,
    /// Where it was measured.
    pub machine: String,
    /// Repeats, in turns.
    pub repeats: usize,
    /// Shorter than for publication.
    pub short: bool,
    /// The values of all repeats: by case, such as `5000/s`, then by metric, then by server.
    pub cases: BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<f64>>>>,
}

impl Figures {
    /// None yet.
    pub fn new(benchmark: &str, repeats: usize, short: bool) -> Self {
        Self {
            benchmark: benchmark.to_owned(),
            machine: usage::machine(),
            repeats,
            short,
            cases: BTreeMap::new(),
        }
    }

    /// Adds a value of one repeat. The metric's name ends in its unit.
    pub fn add(&mut self, case: &str, metric: &str, server: &str, value: f64) {
        let metrics = self.cases.entry(case.to_owned()).or_default();
        let servers = metrics.entry(metric.to_owned()).or_default();
        servers.entry(server.to_owned()).or_default().push(value);
    }

    /// Adds the repeats of an earlier run.
    /// Fails if it was measured on another machine, or in another form.
    pub fn merge(&mut self, earlier: Self) -> Result<()> {
        let is_same =
            (&earlier.benchmark, &earlier.machine, earlier.short) == (&self.benchmark, &self.machine, self.short);
        ensure!(is_same, "the earlier figures are of another machine, or short");
        self.repeats += earlier.repeats;
        for (case, metrics) in &earlier.cases {
            for (metric, servers) in metrics {
                for (server, values) in servers {
                    for value in values {
                        self.add(case, metric, server, *value);
                    }
                }
            }
        }
        Ok(())
    }

    /// The median of a server.
    pub fn median(&self, case: &str, metric: &str, server: &str) -> Option<f64> {
        let mut values = self.cases.get(case)?.get(metric)?.get(server)?.clone();
        values.sort_by(f64::total_cmp);
        let upper = values.get(values.len() / 2)?;
        let lower = values.get((values.len().max(1) - 1) / 2)?;
        Some(f64::midpoint(*lower, *upper))
    }

    /// Writes the file.
    pub fn save(&self) -> Result<()> {
        let path = path(&self.benchmark)?;
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(path, serde_json::to_string_pretty(self)?)?;
        Ok(())
    }

    /// The figures of the last run of a benchmark, if there was one.
    pub fn load(benchmark: &str) -> Result<Option<Self>> {
        let path = path(benchmark)?;
        if !path.exists() {
            return Ok(None);
        }
        let figures = serde_json::from_slice(&fs::read(&path)?);
        figures.with_context(|| format!("reading {}", path.display())).map(Some)
    }
}

/// `target/bench`, beside the program.
fn path(benchmark: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|folder| folder.ends_with("target"));
    let target = target.unwrap_or(Path::new("target"));
    Ok(target.join("bench").join(format!("{benchmark}.json")))
}

/// What a figure of ours is divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Against {
    /// The median of a peer, in the same case.
    Peer(&'static str),
    /// Our own median in another case of the benchmark.
    Case(&'static str),
    /// Nothing.
    Itself,
}

/// A goal.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// The name of the benchmark.
    pub benchmark: &'static str,
    /// Its case.
    pub case: &'static str,
    /// The metric.
    pub metric: &'static str,
    /// What it is compared with.
    pub against: Against,
    /// The most that the ratio, or the figure, should be; `None`: shown without a verdict. For rates it is the least.
    pub limit: Option<f64>,
}

impl Goal {
    /// A rate: more is better.
    pub fn is_rate(&self) -> bool {
        self.metric.ends_with("/s")
    }

    /// The ratio, or the figure, of what was measured.
    pub fn measured(&self, figures: &Figures) -> Option<f64> {
        let ours = figures.median(self.case, self.metric, OURS)?;
        Some(match self.against {
            Against::Peer(peer) => ours / figures.median(self.case, self.metric, peer)?,
            Against::Case(case) => ours / figures.median(case, self.metric, OURS)?,
            Against::Itself => ours,
        })
    }

    /// Whether it is met; `None` without a limit.
    pub fn is_met(&self, measured: f64) -> Option<bool> {
        self.limit.map(|limit| {
            if self.is_rate() {
                measured >= limit
            } else {
                measured <= limit
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians() {
        let mut figures = Figures::new("x", 3, false);
        for (ours, peer) in [(9.0, 10.0), (1.0, 2.0), (3.0, 4.0)] {
            figures.add("a", "p50 µs", OURS, ours);
            figures.add("a", "p50 µs", "peer", peer);
            figures.add("b", "p50 µs", OURS, 6.0);
            figures.add("a", "ticks/s", OURS, ours);
        }
        let mut earlier = Figures::new("x", 1, false);
        earlier.add("a", "ticks/s", OURS, 100.0);
        let mut merged = figures.clone();
        merged.merge(earlier).unwrap();
        assert_eq!(
            (merged.repeats, merged.median("a", "ticks/s", OURS)),
            (4, Some(6.0)),
            "the median of 1, 3, 9 and 100"
        );
        assert!(merged.merge(Figures::new("x", 1, true)).is_err(), "short");
        let goal = |case, metric, against| Goal {
            benchmark: "x",
            case,
            metric,
            against,
            limit: Some(0.75),
        };
        let measured = |goal: Goal| goal.measured(&figures);
        let peer = goal("a", "p50 µs", Against::Peer("peer"));
        assert_eq!(measured(peer), Some(0.75));
        assert_eq!((peer.is_met(0.75), peer.is_met(0.76)), (Some(true), Some(false)));
        assert_eq!(measured(goal("b", "p50 µs", Against::Case("a"))), Some(2.0));
        assert_eq!(measured(goal("a", "p50 µs", Against::Itself)), Some(3.0));
        assert_eq!(measured(goal("c", "p50 µs", Against::Itself)), None);
        let rate = goal("a", "ticks/s", Against::Itself);
        assert_eq!((rate.is_met(0.7), rate.is_met(0.8)), (Some(false), Some(true)));
    }
}
