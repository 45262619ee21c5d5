//! The demo: one call from ringing to its bill, one whose credit runs out, then fifty more to measure latency. It checks each expectation.
//!
//! [`scenario`] is the first call, [`credit`] the second, [`latency`] the measurement beside its [`baseline`], [`checklist`] has the expectations.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

use crate::servers::process;
use crate::servers::stack::{Stack, StackBuilder};
use crate::servers::wallet::{WalletHome, WalletOptions};
use crate::terminal::interrupt::interrupted;
use crate::terminal::screen::{LineKind, Screen};
use checklist::{Checklist, Expectation};

pub mod baseline;
pub mod checklist;
pub mod credit;
pub mod latency;
pub mod scenario;

/// The length of a minute in the demo.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// The deadline of the whole demo.
const DEADLINE: Duration = Duration::from_secs(120);
/// The exit code of shells for Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Of an interval, for the wallet.
const PRICE: u64 = 10;
/// The intervals that the balance of a new user covers.
const NEW_USER_INTERVALS: u64 = 3;
/// The intervals that the wallet reserves for a call, if the balance covers them: more than a call of the demo lasts.
const RESERVED_INTERVALS: u64 = 30;

/// Runs the demo: 0 if all expectations were met, 1 if not, 130 if interrupted.
pub async fn main() -> ExitCode {
    let screen = Screen::new();
    let mut checklist = Checklist::default();
    // Kept after a failure.
    let folder = process::run_folder("demo");
    let outcome = tokio::select! {
        outcome = timeout(DEADLINE, play(&screen, &mut checklist, &folder)) => {
            outcome.unwrap_or_else(|_| bail_late()).map(Some)
        }
        outcome = interrupted() => outcome.map(|()| None),
    };
    match outcome {
        Ok(None) => {
            screen.line(LineKind::Bad, "interrupted; all processes are stopped");
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
            LineKind::Good,
            &format!("all expectations were met, in {:.1} s", screen.elapsed().as_secs_f64()),
        );
        return ExitCode::SUCCESS;
    }
    screen.line(
        LineKind::Bad,
        &format!("not all expectations were met; the logs are in {}", folder.display()),
    );
    ExitCode::FAILURE
}

async fn play(screen: &Screen, checklist: &mut Checklist, folder: &Path) -> Result<latency::Figures> {
    screen.heading("Starting nats-server, media-worker, two ws-edge nodes, billing-timer, and a wallet");
    let stack = start(folder).await.context("starting the stack")?;
    let home = wallet_home(&stack, folder).await?;
    let wallet = home.start(None).await.context("starting the wallet")?;
    for (name, address) in addresses(&stack)? {
        screen.line(LineKind::Quiet, &format!("{name:<16} {address}"));
    }
    checklist.seen(
        Expectation::Started,
        &format!("ready after {:.1} s", screen.elapsed().as_secs_f64()),
    );
    scenario::play(screen, checklist, &stack).await?;
    credit::play(screen, checklist, &stack, &home).await?;
    let figures = latency::measure(screen, &stack).await.context("measuring latency")?;
    checklist.seen(Expectation::Measured, &format!("{} calls", figures.calls()));
    save_metrics(&stack).await?;
    screen.heading("Stopping");
    wallet.stop().await?;
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
        .set("media-worker", "credit_low_ms", INTERVAL.as_millis())
        .set("ws-edge", "credit.enabled", true)
        .start()
        .await
}

/// The wallet of the example, in which the user of the first call has a deposit.
async fn wallet_home(stack: &Stack, folder: &Path) -> Result<WalletHome> {
    let options = WalletOptions {
        price: PRICE,
        first_intervals: RESERVED_INTERVALS,
        opening_balance: NEW_USER_INTERVALS * PRICE,
        ..WalletOptions::new(u64::try_from(INTERVAL.as_millis())?)
    };
    let home = WalletHome::new(&stack.nats, folder, options).await?;
    home.deposit(scenario::USER, RESERVED_INTERVALS * PRICE)?;
    Ok(home)
}

/// Writes the metrics of every service below the folder in `DEMO_METRICS`, if it is set: `make plots` draws them.
async fn save_metrics(stack: &Stack) -> Result<()> {
    let Some(folder) = std::env::var_os("DEMO_METRICS") else {
        return Ok(());
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    for service in stack.edges.iter().chain(&stack.workers).chain(&stack.timers) {
        let (_, metrics) = service.ops("/metrics").await?;
        std::fs::write(folder.join(format!("{}.prom", service.child().name())), metrics)?;
    }
    Ok(())
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
    bail!("the demo exceeded {DEADLINE:?}")
}
