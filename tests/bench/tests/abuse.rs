//! `make abuse` with few sockets: nothing is lost, and memory is bounded. Times are not judged.

#![allow(clippy::unwrap_used, reason = "a test")]

use callpulse_bench::abuse::{Options, run};
use callpulse_tests::servers::process::built;
use clap::Parser as _;

#[tokio::test(flavor = "multi_thread")]
async fn good_clients_lose_nothing_beside_others_and_memory_is_bounded() {
    let few = "abuse --good 20 --rate 200 --half-open 100 --unread 5 --unread-rate 5000 --storm 100 --handshake-timeout-ms 2000 --calm 1";
    let mut options = Options::parse_from(few.split(' '));
    options.edge = built("ws-edge").unwrap();
    let outcomes = run(&options, &progress).await.unwrap();
    assert_eq!(outcomes.len(), 3);
    for outcome in outcomes {
        outcome.check().unwrap();
    }
}

#[allow(clippy::print_stdout, reason = "a run prints its progress")]
fn progress(text: &str) {
    println!("{text}");
}
