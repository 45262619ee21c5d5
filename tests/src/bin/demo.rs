//! `make demo`: a call through the real services, printed as it happens.

use std::process::ExitCode;

use clap::Parser;

/// A call through the real services, printed as it happens, then fifty more to measure latency. It takes no options.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Options {}

#[tokio::main]
async fn main() -> ExitCode {
    Options::parse();
    callpulse_tests::demo::main().await
}
