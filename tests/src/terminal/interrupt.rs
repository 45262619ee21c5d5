//! Ctrl-C and SIGTERM, and the exit codes of tools.

use std::process::ExitCode;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::screen::{LineKind, Screen};

/// Returns on SIGINT or SIGTERM.
pub async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Does the work of a tool: 0 if it succeeds, 1 if it fails or is interrupted, with the error printed.
pub async fn run(screen: &Screen, work: impl Future<Output = Result<()>>) -> ExitCode {
    let outcome = tokio::select! {
        outcome = work => outcome,
        outcome = interrupted() => outcome.and_then(|()| bail!("interrupted")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.line(LineKind::Bad, &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
