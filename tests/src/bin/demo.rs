//! `make demo`: a whole call through the real services, shown as it happens.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    callpulse_tests::demo::main().await
}
