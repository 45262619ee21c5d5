//! A message of an answer is lost between the server and `callctl export`.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use callpulse_tests::servers::commands;
use serde_json::Value;

use crate::export::SettledCalls;
use crate::fixture::{callctl, lines, output};
use crate::lossy::LossyProxy;

/// More than fit into one reply of the server.
const CALLS: usize = 1_100;
const EXPORT: &[&str] = &["export", "--from", "2020-01-01", "--json"];

#[tokio::test]
async fn an_answer_that_lost_a_message_is_requested_again() -> Result<()> {
    let settled = SettledCalls::start().await?;
    settled.settle(0..CALLS).await?;
    let complete = lines(&output(&settled.server, EXPORT).await?)?;
    ensure!(complete.len() == CALLS, "{} records", complete.len());
    // The first message of an answer, one in its middle, its last one, and the message that ends it.
    for lost in [
        "Nats-Sequence: 1\r\n",
        "Nats-Sequence: 500\r\n",
        "Nats-Sequence: 1024\r\n",
        " 204 ",
    ] {
        let dropped = AtomicBool::new(false);
        let drops = move |message: &str| message.contains(lost) && !dropped.swap(true, Ordering::SeqCst);
        let exported = export_through(&settled, drops, EXPORT).await?;
        let log = String::from_utf8_lossy(&exported.stderr);
        ensure!(exported.status.success(), "{lost:?}: {}: {log}", exported.status);
        ensure!(records(&exported)? == complete, "{lost:?}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn an_export_that_stays_incomplete_fails_and_names_the_sequence_to_resume_after() -> Result<()> {
    let settled = SettledCalls::start().await?;
    settled.settle(0..CALLS).await?;
    let complete = lines(&output(&settled.server, EXPORT).await?)?;
    let drops = |message: &str| message.contains("Nats-Sequence: 1050\r\n");
    let exported = export_through(&settled, drops, EXPORT).await?;
    let log = String::from_utf8_lossy(&exported.stderr);
    ensure!(exported.status.code() == Some(1), "{}: {log}", exported.status);
    ensure!(
        log.contains("resume it with --after 1024") && log.contains("a message of the answer was lost"),
        "{log}"
    );
    let rest = output(&settled.server, &[EXPORT, &["--after", "1024"]].concat()).await?;
    ensure!([records(&exported)?, lines(&rest)?].concat() == complete, "{log}");
    Ok(())
}

async fn export_through(
    settled: &SettledCalls,
    drops: impl Fn(&str) -> bool + Send + Sync + 'static,
    arguments: &[&str],
) -> Result<Output> {
    let proxy = LossyProxy::to(settled.server.port(), drops).await?;
    let mut command = callctl(&settled.server, arguments)?;
    command.env("CALLCTL_NATS_URL", proxy.url());
    commands::output(command).await
}

fn records(output: &Output) -> Result<Vec<Value>> {
    lines(std::str::from_utf8(&output.stdout)?)
}
