//! `make demo`: a call through the real services, printed as it happens.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    callpulse_tests::demo::main().await
}
