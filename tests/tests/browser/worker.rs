//! The media-worker is killed during a call.

use callpulse_tests::servers::stack::StackBuilder;
use chrono::Utc;
use serde_json::json;

use crate::call::{assert_clean_consoles, assert_record};
use crate::fixture::{Fixture, INTERVAL_MS};

#[tokio::test]
async fn a_killed_media_worker_ends_the_call_on_both_sides_with_its_reason() {
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        .set("media-worker", "heartbeat_interval_ms", 500);
    let Some(mut fixture) = Fixture::start_with("worker", stack).await.unwrap() else {
        return;
    };
    let mut script = fixture.run_script("worker").await.unwrap();
    let call_id = fixture.expect_connected(&mut script).await.unwrap();

    script.expect("kill_worker").await.unwrap();
    let killed_at = Utc::now();
    fixture.stack.workers[0].kill().unwrap();
    script.done("kill_worker").await.unwrap();
    let record = assert_record(&fixture, &mut script, &call_id, "worker_lost").await;
    assert!(record.ended.time("endedAt").unwrap() <= killed_at, "{:?}", record.ended);

    let afterwards = script.expect("afterwards").await.unwrap();
    assert_eq!(
        afterwards,
        json!({ "state": ["Call ended", "Call ended"], "call": true })
    );
    let windows = script.end().await.unwrap();
    assert_clean_consoles(&windows);
}
