//! The demo: one call from ringing to its bill, then fifty more for their latency, each expectation checked.
//!
//! [`story`] is the call, [`latency`] the measurement, [`onlooker`] prints what passes by, [`checklist`] is what must
//! have been seen at the end, [`screen`] is where all of it goes.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

use crate::interrupt::interrupted;
use crate::process;
use crate::stack::{Stack, StackBuilder};
use checklist::{Checklist, Expectation};
use screen::{Screen, Tone};

pub mod checklist;
pub mod latency;
pub mod onlooker;
pub mod screen;
pub mod story;

/// A minute of the demo.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Whatever hangs, the demo does not.
const OVER_WITHIN: Duration = Duration::from_secs(90);
/// As shells report an end by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Runs the demo: 0 if everything expected was seen, 1 if not, 130 if interrupted.
pub async fn main() -> ExitCode {
    let screen = Screen::new();
    let mut checklist = Checklist::default();
    // Kept when something goes wrong, to be looked into.
    let folder = process::run_folder("demo");
    let outcome = tokio::select! {
        outcome = timeout(OVER_WITHIN, play(&screen, &mut checklist, &folder)) => {
            outcome.unwrap_or_else(|_| bail_late()).map(Some)
        }
        outcome = interrupted() => outcome.map(|()| None),
    };
    match outcome {
        Ok(None) => {
            screen.line(Tone::Bad, "interrupted; everything is stopped");
            let _ = std::fs::remove_dir_all(&folder);
            return ExitCode::from(INTERRUPTED);
        }
        Ok(Some(figures)) => {
            checklist.show(&screen);
            figures.show(&screen);
        }
        Err(error) => {
            checklist.fail(&format!("{error:#}"));
            checklist.show(&screen);
        }
    }
    if checklist.complete() {
        let _ = std::fs::remove_dir_all(&folder);
        screen.line(
            Tone::Good,
            &format!("all of it happened, in {:.1} s", screen.elapsed().as_secs_f64()),
        );
        return ExitCode::SUCCESS;
    }
    screen.line(
        Tone::Bad,
        &format!("not all of it happened; the logs are in {}", folder.display()),
    );
    ExitCode::FAILURE
}

async fn play(screen: &Screen, checklist: &mut Checklist, folder: &Path) -> Result<latency::Figures> {
    screen.heading("Starting nats-server, media-worker, two ws-edge nodes, billing-timer");
    let stack = start(folder).await.context("starting the stack")?;
    for (name, address) in addresses(&stack)? {
        screen.line(Tone::Quiet, &format!("{name:<16} {address}"));
    }
    checklist.seen(
        Expectation::Started,
        &format!("ready after {:.1} s", screen.elapsed().as_secs_f64()),
    );
    story::play(screen, checklist, &stack).await?;
    let figures = latency::measure(screen, &stack).await.context("measuring latency")?;
    checklist.seen(Expectation::Measured, &format!("{} calls", figures.calls()));
    screen.heading("Stopping");
    stack.stop().await?;
    checklist.seen(Expectation::Stopped, "every process by SIGTERM, with success");
    Ok(figures)
}

async fn start(folder: &Path) -> Result<Stack> {
    StackBuilder::default()
        .edges(2)
        .folder(folder)
        .set("billing-timer", "tick_interval_ms", INTERVAL.as_millis())
        .set("media-worker", "stats_interval_ms", 200)
        .set("media-worker", "rtp_lost_after_ms", 800)
        .start()
        .await
}

fn addresses(stack: &Stack) -> Result<Vec<(String, String)>> {
    let mut addresses = vec![("nats-server".to_owned(), stack.nats.url())];
    for edge in &stack.edges {
        addresses.push((
            edge.child().name().to_owned(),
            format!("ws://{}/ws", edge.address("ws")?),
        ));
    }
    for service in stack.workers.iter().chain(&stack.timers) {
        addresses.push((
            service.child().name().to_owned(),
            format!("http://{} (operations)", service.address("ops")?),
        ));
    }
    Ok(addresses)
}

fn bail_late() -> Result<latency::Figures> {
    bail!("it was not over within {OVER_WITHIN:?}")
}
