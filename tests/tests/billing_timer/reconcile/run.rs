//! Runs the command as a process and parses its output.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::process::built;
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
    /// The highest sampled memory use in kilobytes.
    pub(crate) peak_kb: u64,
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
    let mut settings = fixture.stack.nats.settings_of("billing-timer")?.to_vec();
    settings.push(("tick_interval_ms", fixture.interval_ms.to_string()));
    settings.extend(own);
    let mut command = Command::new(built("billing-timer")?);
    command.args(["reconcile", "--json", "--grace", &format!("{GRACE_MS}ms")]);
    command.args(more);
    for (key, value) in settings {
        command.env(
            format!("BILLING_TIMER__{}", key.replace('.', "__")).to_uppercase(),
            value,
        );
    }
    run(&mut command, &fixture.stack.folder().join("reconcile.log")).await
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
    let mut peak_kb = 0;
    let status = eventually("the end of reconcile", TIMEOUT, async || {
        peak_kb = peak_memory_kb(child.pid()).unwrap_or(peak_kb);
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
        peak_kb,
        took,
    })
}

fn peak_memory_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
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
