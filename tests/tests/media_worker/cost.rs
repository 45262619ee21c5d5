//! What the samples of liveness cost: two workers with the same calls at the same time, one of which takes no samples.
//!
//! `cargo test --workspace --test media_worker -- --ignored --nocapture cost`, on a machine without other load.

use std::time::Duration;

use callpulse_tests::servers::child::cpu_ticks;
use callpulse_tests::servers::process::Service;
use callpulse_tests::wait::let_time_pass;
use contract::Role;

use crate::fixture::{Fixture, Sender, requester};

const CALLS: usize = 25;
const ROUNDS: u32 = 4;
const ROUND: Duration = Duration::from_secs(15);
/// No sample within the measurement.
const NO_SAMPLES: [(&str, &str); 4] = [
    ("stats_interval_ms", "3600000"),
    ("rtp_lost_after_ms", "3600001"),
    ("rtp_timeout_ms", "3600002"),
    ("one_sided_timeout_ms", "3600003"),
];

fn cpu(worker: &Service) -> u32 {
    cpu_ticks(worker.child().pid()).unwrap()
}

async fn calls(fixture: &Fixture) -> Vec<Sender> {
    let mut senders = Vec::new();
    for _ in 0..CALLS {
        let parties = fixture.call().await;
        for role in Role::BOTH {
            let sender = fixture.join(&requester(&parties, role)).await;
            sender.talk().await;
            senders.push(sender);
        }
    }
    senders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of 70 s on a quiet machine"]
async fn samples_of_statistics_cost_little_cpu() {
    let (with, without) = (Fixture::start(&[]).await, Fixture::start(&NO_SAMPLES).await);
    let _calls = (calls(&with).await, calls(&without).await);
    let mut sums = [0, 0];
    for round in 1..=ROUNDS {
        let before = [cpu(&with.worker), cpu(&without.worker)];
        let_time_pass("the workers forward media", ROUND).await;
        let used = [cpu(&with.worker) - before[0], cpu(&without.worker) - before[1]];
        println!(
            "round {round}: {} ms with samples, {} ms without",
            used[0] * 10,
            used[1] * 10
        );
        sums = [sums[0] + used[0], sums[1] + used[1]];
    }
    let per_call = |used: u32| f64::from(used) * 10.0 / (ROUND * ROUNDS).as_secs_f64() / CALLS as f64;
    println!(
        "{:.2} ms of CPU per call and second with samples, {:.2} without: {:+.1} %",
        per_call(sums[0]),
        per_call(sums[1]),
        (f64::from(sums[0]) / f64::from(sums[1]) - 1.0) * 100.0
    );
    assert!(sums[1] > 0, "the workers forward media");
}
