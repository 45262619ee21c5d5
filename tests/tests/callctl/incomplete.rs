//! A message of an answer is lost between the server and `callctl export`.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::export::Ledger;
use crate::lossy::LossyProxy;
use crate::rig::{callctl, lines, output};

/// More than one answer of the server holds.
const CALLS: usize = 1_100;
const EXPORT: &[&str] = &["export", "--from", "2020-01-01", "--json"];

#[tokio::test]
async fn an_answer_that_lost_a_message_is_requested_again() -> Result<()> {
    let ledger = Ledger::start().await?;
    ledger.settle(0..CALLS).await?;
    let complete = lines(&output(&ledger.server, EXPORT).await?)?;
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
        let exported = export_through(&ledger, drops, EXPORT).await?;
        let log = String::from_utf8_lossy(&exported.stderr);
        ensure!(exported.status.success(), "{lost:?}: {}: {log}", exported.status);
        ensure!(records(&exported)? == complete, "{lost:?}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn an_export_that_stays_incomplete_fails_and_names_the_sequence_to_resume_after() -> Result<()> {
    let ledger = Ledger::start().await?;
    ledger.settle(0..CALLS).await?;
    let complete = lines(&output(&ledger.server, EXPORT).await?)?;
    let drops = |message: &str| message.contains("Nats-Sequence: 1050\r\n");
    let exported = export_through(&ledger, drops, EXPORT).await?;
    let log = String::from_utf8_lossy(&exported.stderr);
    ensure!(exported.status.code() == Some(1), "{}: {log}", exported.status);
    ensure!(
        log.contains("resume it with --after 1024") && log.contains("a message of the answer was lost"),
        "{log}"
    );
    let rest = output(&ledger.server, &[EXPORT, &["--after", "1024"]].concat()).await?;
    ensure!([records(&exported)?, lines(&rest)?].concat() == complete, "{log}");
    Ok(())
}

async fn export_through(
    ledger: &Ledger,
    drops: impl Fn(&str) -> bool + Send + Sync + 'static,
    arguments: &[&str],
) -> Result<Output> {
    let proxy = LossyProxy::to(ledger.server.port(), drops).await?;
    let mut command = callctl(&ledger.server, arguments)?;
    command.env("CALLCTL_NATS_URL", proxy.url());
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn records(output: &Output) -> Result<Vec<Value>> {
    lines(std::str::from_utf8(&output.stdout)?)
}
