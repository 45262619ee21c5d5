//! An upgrade under load: every service is scaled from one process to three, every process and nats-server is restarted in turn, and
//! every service is scaled back. `make upgrade` does the same with 100 calls.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use callpulse_chaos as chaos;
use callpulse_chaos::options::Options;
use callpulse_tests::servers::process;
use callpulse_tests::terminal::screen::{LineKind, Screen};
use clap::Parser;

/// The deadline of the run.
const DEADLINE: Duration = Duration::from_secs(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_ends_no_call_and_loses_no_minute_and_no_notice() {
    let options = Options::parse_from("chaos --upgrade --calls 20 --talk 8".split(' '));
    let (screen, folder) = (Screen::new(), process::run_folder("upgrade-test"));
    let outcome = tokio::time::timeout(DEADLINE, chaos::run(&options, 1, screen, &folder)).await;
    let outcome = outcome.unwrap().unwrap();
    screen.plain(LineKind::Info, &outcome.to_string());
    let found = outcome.report.without_recovery_times();
    assert!(found.is_empty(), "{found:?}; the evidence is in {}", folder.display());
    assert!(
        outcome.findings.is_empty(),
        "{:?}; the evidence is in {}",
        outcome.findings,
        folder.display()
    );
    assert!(outcome.calls.1 > 60, "too few calls: {:?}", outcome.calls);
    let _ = std::fs::remove_dir_all(&folder);
}
