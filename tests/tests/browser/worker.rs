//! The media-worker dies under a call.

use callpulse_tests::stack::StackBuilder;
use chrono::Utc;
use serde_json::json;

use crate::call::{assert_no_complaints, assert_record};
use crate::scene::{INTERVAL_MS, Scene};

#[tokio::test]
async fn a_killed_media_worker_ends_the_call_on_both_screens_and_says_why() {
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        .set("media-worker", "heartbeat_interval_ms", 500);
    let Some(mut scene) = Scene::set_with("worker", stack).await.unwrap() else {
        return;
    };
    let mut script = scene.play("worker").await.unwrap();
    let connected = script.hear("connected").await.unwrap();
    let call_id = scene.shown_alike(&connected, &["user", "otomo"]).await.unwrap().call_id;

    script.hear("kill_worker").await.unwrap();
    let killed_at = Utc::now();
    scene.stack.workers[0].kill().unwrap();
    script.done("kill_worker").await.unwrap();
    let record = assert_record(&scene, &mut script, &call_id, "worker_lost").await;
    assert!(record.ended.time("endedAt").unwrap() <= killed_at, "{:?}", record.ended);

    let afterwards = script.hear("afterwards").await.unwrap();
    assert_eq!(
        afterwards,
        json!({ "state": ["Call ended", "Call ended"], "call": true })
    );
    let windows = script.end().await.unwrap();
    assert_no_complaints(&windows);
}
