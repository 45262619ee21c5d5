//! `make bench`: measures the services beside their peers.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    callpulse_bench::main(callpulse_bench::Options::parse()).await
}
