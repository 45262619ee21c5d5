//! The program: see the library.

use std::process::ExitCode;

use clap::Parser;
use service::{App, ServiceArgs};

/// Minute ticks and settlements of callpulse's calls.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    let app = App::new(billing_timer::NAME, env!("CARGO_PKG_VERSION"));
    service::serve(app, &Cli::parse().service, billing_timer::run)
}
