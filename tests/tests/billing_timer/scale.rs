//! Many active calls with injected facts: a killed timer is on time again after its restart, and every tick, settlement and
//! notice is correct. `make scale` plays the same run with more calls, and measures it.

use std::time::Duration;

use anyhow::{Result, ensure};
use callpulse_tests::scale::run::{Plan, run};
use callpulse_tests::servers::nats_server::Sync;

/// Generous: the machine may run other tests in parallel.
const ON_TIME_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_timer_with_10_000_calls_is_on_time_again() -> Result<()> {
    let plan = Plan {
        calls: 10_000,
        interval_ms: 10_000,
        observed: Duration::from_secs(15),
        sync: Sync::Lazy,
        billing_timer: None,
    };
    let figures = run(&plan, &progress).await?;
    ensure!(figures.on_time_after < ON_TIME_WITHIN, "{figures:?}");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a run prints its figures")]
fn progress(text: &str) {
    println!("{text}");
}
