//! `make bench`: the services beside what their users would take instead, in turns on the same machine.
//!
//! | module | content |
//! | --- | --- |
//! | [`histogram`], [`usage`] | latencies; CPU and memory of a process |
//! | [`clients`], [`notice_source`] | thousands of WebSockets, and a publisher of notices at a given rate |
//! | [`bare_publisher`] | ticks as prepared bytes |
//! | [`server_kind`] | ws-edge and its peers of `tests/peers`, each a process |
//! | [`relay_kind`] | media-worker and bare mediasoup, each a process, and calls with media |
//! | [`parties`] | clients with tokens, and the notices to them |
//! | [`abuse`] | `make abuse`: clients that must not hurt others |
//! | [`figures`] | what was measured, `target/bench/*.json`, and the goals |
//! | [`benchmarks`] | the benchmarks |
//! | [`report`] | the table, the chart, and the page of the book |

pub mod histogram;
pub mod usage;

pub mod clients;
pub mod notice_source;

pub mod bare_publisher;
pub mod relay_kind;
pub mod server_kind;

pub mod parties;

pub mod abuse;

pub mod figures;

pub mod benchmarks;

pub mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use callpulse_tests::terminal::interrupt;
use callpulse_tests::terminal::screen::{LineKind, Screen};
use clap::Parser;

use benchmarks::{LONG, NAMES, Plan};
use figures::Figures;

/// Options of the command.
#[derive(Debug, Clone, Parser)]
#[command(about = "Measures the services beside their peers, and compares the ratios with the goals")]
pub struct Options {
    /// The benchmarks to run, such as `notices`; all by default
    pub names: Vec<String>,
    /// Repeats, in turns with the peers; a figure is the median
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Shorter windows and fewer repeats, without media and growth unless they are named: for every day, not for publication
    #[arg(long)]
    pub short: bool,
    /// The most subjects that `retained` stores: 100000, 1000000 or 4000000
    #[arg(long, default_value_t = 4_000_000)]
    pub retained: u64,
    /// Add the repeats to those of earlier runs, to run a long benchmark in several parts
    #[arg(long)]
    pub add: bool,
    /// The folder of the release builds of the services
    #[arg(long, default_value = "target/release")]
    pub services: PathBuf,
    /// Measure nothing: print the table of what was measured
    #[arg(long)]
    pub report: bool,
    /// Also renew the table and the chart of the book
    #[arg(long)]
    pub write: bool,
}

/// Measures, and prints the table: 0 unless a measurement failed. A missed goal does not fail: it depends on the machine.
pub async fn main(options: Options) -> ExitCode {
    let screen = Screen::new();
    let work = async {
        measure(&screen, &options).await?;
        report::run(&screen, options.write)
    };
    interrupt::run(&screen, work).await
}

async fn measure(screen: &Screen, options: &Options) -> Result<()> {
    if options.report {
        return Ok(());
    }
    if let Some(unknown) = options.names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("no benchmark {unknown}; there are: {}", NAMES.join(", "));
    }
    let plan = Plan {
        services: options.services.canonicalize().context("no release builds")?,
        repeats: if options.short {
            2.min(options.repeats)
        } else {
            options.repeats
        },
        short: options.short,
        retained: options.retained,
    };
    for name in NAMES {
        let is_meant = match options.names.as_slice() {
            [] => !(options.short && LONG.contains(&name)),
            names => names.iter().any(|wanted| wanted == name),
        };
        if is_meant {
            screen.heading(&format!("{name}, {} repeats", plan.repeats));
            let progress = |text: &str| screen.line(LineKind::Quiet, text);
            let mut figures = benchmarks::measure(name, &plan, &progress).await?;
            if options.add
                && let Some(earlier) = Figures::load(name)?
            {
                figures.merge(earlier)?;
            }
            figures.save()?;
        }
    }
    Ok(())
}
