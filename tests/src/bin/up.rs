//! `make up`: the whole stack until Ctrl-C.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    callpulse_tests::up::main(callpulse_tests::up::Options::parse()).await
}
