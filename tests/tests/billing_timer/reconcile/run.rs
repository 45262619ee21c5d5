//! Runs the command as a process and parses its output.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::child::{Child, peak_resident_bytes};
use callpulse_tests::servers::commands;
use callpulse_tests::wait::eventually;
use contract::Timestamp;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::fixture::{Fixture, wall_clock_reaches};

/// The grace period for late ticks and settlements.
pub(crate) const GRACE_MS: u64 = 1_500;
/// A million facts take a while on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(300);
/// One run of the command.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) differences: Vec<Value>,
    pub(crate) summary: Value,
    pub(crate) log: String,
    /// The highest sampled memory use.
    pub(crate) peak_bytes: u64,
    pub(crate) took: Duration,
}

pub(crate) async fn reconcile(fixture: &Fixture, more: &[&str]) -> Result<Run> {
    reconcile_with(fixture, more, []).await
}

pub(crate) async fn reconcile_with<const N: usize>(
    fixture: &Fixture,
    more: &[&str],
    own: [(&'static str, String); N],
) -> Result<Run> {
    // Facts younger than the grace period are not checked.
    wall_clock_reaches(Timestamp::now().plus_millis(GRACE_MS + 1)).await?;
    let settings = [("tick_interval_ms", fixture.interval_ms.to_string())]
        .into_iter()
        .chain(own);
    let mut command = commands::reconcile(&fixture.stack.nats, &format!("{GRACE_MS}ms"), settings)?;
    run(command.args(more), &fixture.stack.folder().join("reconcile.log")).await
}

pub(crate) async fn run(command: &mut Command, log: &Path) -> Result<Run> {
    let begun = Instant::now();
    let mut child = Child::start("reconcile", command, log)?;
    let mut stdout = child.take_stdout()?;
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        stdout.read_to_string(&mut text).await?;
        anyhow::Ok(text)
    });
    let mut peak_bytes = 0;
    let status = eventually("the end of reconcile", TIMEOUT, async || {
        peak_bytes = peak_resident_bytes(child.pid()).unwrap_or(peak_bytes);
        child.ended()?.context("still running")
    })
    .await?;
    let took = begun.elapsed();
    let mut lines = Vec::new();
    for line in reading.await??.lines() {
        lines.push(serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?);
    }
    let summary = lines.pop_if(|line| line.get("summary").is_some()).unwrap_or_default();
    Ok(Run {
        code: status
            .code()
            .with_context(|| format!("{status}: {}", child.log_tail()))?,
        differences: lines,
        summary: summary["summary"].clone(),
        log: child.log_tail(),
        peak_bytes,
        took,
    })
}

impl Run {
    pub(crate) fn check_clean(&self) -> Result<()> {
        ensure!(
            self.code == 0 && self.differences.is_empty(),
            "{}: {:?} {} {}",
            self.code,
            self.differences,
            self.summary,
            self.log
        );
        Ok(())
    }

    /// Call and kind of each difference, sorted.
    pub(crate) fn kinds(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<(&str, &str)> = self
            .differences
            .iter()
            .map(|difference| {
                let of = |key: &str| difference[key].as_str().unwrap_or("none");
                (of("callId"), of("difference"))
            })
            .collect();
        all.sort_unstable();
        all
    }
}
