//! Runs `callctl` and returns its output.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::commands;
use callpulse_tests::servers::nats_server::NatsServer;
use serde_json::Value;

/// The program as the observer, who may only read.
pub(crate) fn callctl(server: &NatsServer, arguments: &[&str]) -> Result<Command> {
    commands::callctl(server, "observer", arguments)
}

/// Runs it to its end without blocking the test's runtime.
pub(crate) async fn run(server: &NatsServer, arguments: &[&str]) -> Result<Output> {
    commands::output(callctl(server, arguments)?).await
}

/// Its stdout; it must succeed.
pub(crate) async fn output(server: &NatsServer, arguments: &[&str]) -> Result<String> {
    stdout_of(callctl(server, arguments)?).await
}

/// The stdout of a command that must succeed.
pub(crate) async fn stdout_of(command: Command) -> Result<String> {
    let run = format!("{:?}", command.get_args());
    let output = commands::output(command).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "callctl {run}: {}: {stderr}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Its stderr; it must fail with this code.
pub(crate) async fn stderr_of_failure(server: &NatsServer, arguments: &[&str], code: i32) -> Result<String> {
    let output = run(server, arguments).await?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(code),
        "callctl {arguments:?}: {}: {stderr}",
        output.status
    );
    Ok(stderr)
}

/// One JSON value a line.
pub(crate) fn lines(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{line:?} is no JSON")))
        .collect()
}
