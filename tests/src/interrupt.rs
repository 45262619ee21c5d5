//! Ctrl-C, or a polite request to stop.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Returns on SIGINT or SIGTERM.
///
/// # Errors
/// When the signals cannot be listened to.
pub async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
