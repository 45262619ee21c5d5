//! `billing-timer` serves; `billing-timer reconcile` holds what is stored against itself.

use std::process::ExitCode;

use billing_timer::reconcile;
use clap::{Parser, Subcommand};
use service::{App, ServiceArgs};

/// Minute ticks and settlements of callpulse's calls.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Recompute every call's minutes from the stored facts, and print what differs
    #[command(long_about = RECONCILE, after_help = EXIT_CODES)]
    Reconcile(reconcile::Options),
}

const RECONCILE: &str = "\
Recompute every call's minutes from the stored facts, and print what differs.

Looked at are the calls whose end was stored between --from and --to, and those that ran on at --to. Of each: that it was \
ended and settled; that it has each due tick once, in order and with its time, and none beyond its end but those that \
overTicks announces; that every field of its settlement is what rtp_detected, ended and the settings (tick_interval_ms, \
charge) give; that no fact is there twice. Also told are messages that cannot be read, and those that were parked.

It uses the service's settings and NATS user, and only reads.";

const EXIT_CODES: &str =
    "Exit codes: 0 nothing differs, 1 something differs, 2 bad settings or options, 3 not read to the end";

fn main() -> ExitCode {
    let app = App::new(billing_timer::NAME, env!("CARGO_PKG_VERSION"));
    let cli = Cli::parse();
    match &cli.command {
        None => service::serve(app, &cli.service, billing_timer::run),
        Some(Command::Reconcile(options)) => reconcile::command(app, &cli.service, options),
    }
}
