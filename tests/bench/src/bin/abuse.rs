//! `make abuse`: clients that must not hurt others.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    callpulse_bench::abuse::main(callpulse_bench::abuse::Options::parse()).await
}
