//! `billing-timer` runs the service; `billing-timer reconcile` checks the stored facts.

use std::process::ExitCode;

use billing_timer::reconcile;
use clap::{Parser, Subcommand};
use service::{App, ServiceArgs};

/// Minute ticks and settlements of callpulse's calls.
#[derive(Debug, Parser)]
#[command(version = service::VERSION)]
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

The command checks the calls whose end was stored between --from and --to, and the calls that continued at --to. For each \
call it checks that it was ended and settled; that each due tick is stored once, in order and with its due time, and no tick \
beyond the end except those reported by overTicks; that every field of the settlement follows from rtp_detected, ended and \
the settings (tick_interval_ms, charge); and that no fact is repeated. Undecodable and parked messages are reported as well.

It uses the service's settings and NATS user, and only reads.";

const EXIT_CODES: &str =
    "Exit codes: 0 no differences, 1 differences, 2 invalid settings or options, 3 not read to the end";

fn main() -> ExitCode {
    let app = App::new(billing_timer::NAME, service::VERSION);
    let cli = Cli::parse();
    match &cli.command {
        None => service::serve(app, &cli.service, billing_timer::run),
        Some(Command::Reconcile(options)) => reconcile::command(app, &cli.service, options),
    }
}
