//! `make scale`: one billing-timer with many active calls is killed and restarted.
//!
//! The facts are injected, without media: [`load`] plans the calls and stores their facts. [`run`] plays one run, [`checker`]
//! compares every stored tick and settlement with the facts, [`notices`] counts notices, [`report`] prints the figures beside
//! the goals. [`observers`] is another run: the other services and `callctl` with as many calls. The test `billing_timer::scale` plays the same run with fewer calls.

pub mod load;

pub mod checker;
pub mod notices;

pub mod run;

pub mod report;

pub mod observers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::servers::nats_server::Sync;
use crate::terminal::interrupt;
use crate::terminal::screen::{LineKind, Screen};
use report::Report;
use run::{Figures, Plan};

/// How long ticks are observed before the kill, and again after it.
const OBSERVED: Duration = Duration::from_secs(30);

/// Options of the command.
#[derive(Debug, Clone, Parser)]
#[command(about = "Kills a billing-timer with many active calls, and checks every tick, settlement and notice")]
pub struct Options {
    /// Active calls; several numbers, separated by commas, are run one after the other
    #[arg(long, value_delimiter = ',', default_value = "100000")]
    pub calls: Vec<usize>,
    /// Runs for each number of calls
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// The length of a minute, in milliseconds
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub tick_interval_ms: u64,
    /// The billing-timer to run, such as a release build [default: the one beside this program]
    #[arg(long)]
    pub billing_timer: Option<PathBuf>,
    /// Instead: start the other services and commands with as many active calls, and print how long each needs
    #[arg(long)]
    pub observers: bool,
}

/// Plays all runs: 0 if every stored fact is correct, 1 otherwise. Missed goals are printed and do not fail: they depend
/// on the machine.
pub async fn main(options: Options) -> ExitCode {
    let screen = Screen::new();
    interrupt::run(&screen, play(&screen, &options)).await
}

async fn play(screen: &Screen, options: &Options) -> Result<()> {
    let mut figures: Vec<Figures> = Vec::new();
    for calls in &options.calls {
        for number in 1..=options.runs {
            screen.heading(&format!("{calls} calls, run {number} of {}", options.runs));
            let progress = |text: &str| screen.line(LineKind::Quiet, text);
            if options.observers {
                observers::run(*calls, &progress).await?;
                continue;
            }
            let plan = Plan {
                calls: *calls,
                interval_ms: options.tick_interval_ms,
                observed: OBSERVED,
                sync: Sync::Always,
                billing_timer: options.billing_timer.clone(),
            };
            let run = run::run(&plan, &progress).await;
            figures.push(run.with_context(|| format!("{calls} calls, run {number}"))?);
        }
    }
    if !figures.is_empty() {
        Report::new(&figures).print(screen);
    }
    Ok(())
}
