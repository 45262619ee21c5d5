//! A minute of `make chaos`: every kind of fault once, on the whole stack, under load.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use callpulse_chaos as chaos;
use callpulse_chaos::faults::fault_schedule::FaultKind;
use callpulse_chaos::options::Options;
use callpulse_tests::servers::process;
use callpulse_tests::terminal::screen::{LineKind, Screen};
use clap::Parser;

/// The deadline of the run.
const DEADLINE: Duration = Duration::from_secs(300);
/// The faults follow each other too closely to measure recovery, which `make chaos` does: both edges are killed while they wait to end the
/// calls of a lost worker, and wait again when they are back. This bound shows that nothing hangs.
const RECOVERED_WITHIN_SECONDS: f64 = 40.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_all_faults_loses_and_doubles_no_tick() {
    let short = "chaos --calls 40 --duration 60 --talk 12 --gap 1.5 --longest 2.5 --longest-outage 5 --rest 0";
    let options = Options::parse_from(short.split(' '));
    let schedule_options = options.schedule_options();
    let has_all_kinds = |seed: &u64| {
        let schedule = schedule_options.schedule(*seed);
        let mut kinds = FaultKind::all().into_iter();
        kinds.all(|kind| schedule.iter().any(|fault| fault.kind == kind))
    };
    let seed = (0..1_000).find(has_all_kinds).unwrap();
    let (screen, folder) = (Screen::new(), process::run_folder("chaos-test"));
    let outcome = tokio::time::timeout(DEADLINE, chaos::run(&options, seed, screen, &folder)).await;
    let outcome = outcome.unwrap().unwrap();
    screen.plain(LineKind::Info, &outcome.to_string());
    let found = outcome.report.without_recovery_times();
    assert!(found.is_empty(), "{found:?}; the evidence is in {}", folder.display());
    // A worker may log that it could not store facts in its drain, if an election takes longer. Edges then end its calls.
    let unexpected = outcome
        .findings
        .iter()
        .filter(|finding| !finding.contains("did not store in time"));
    assert_eq!(unexpected.count(), 0, "the evidence is in {}", folder.display());
    assert!(outcome.report.recovery.all.p99 < RECOVERED_WITHIN_SECONDS);
    let credit = outcome.report.credit;
    assert!(credit.extended > 0 && credit.heard > 0, "{credit:?}");
    assert!(outcome.calls.1 > 60, "too few calls: {:?}", outcome.calls);
    let _ = std::fs::remove_dir_all(&folder);
}
