//! `make scale`: kills a billing-timer with many active calls, and checks what it stored.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    callpulse_tests::scale::main(callpulse_tests::scale::Options::parse()).await
}
