//! A whole call between two windows.

use callpulse_tests::record::Record;
use serde_json::{Value, json};

use crate::scene::{INTERVAL_MS, SOON, Scene, span, time_of_day};
use crate::script::Script;

/// All that a page may send. Nothing here says how a call stands.
const MAY_BE_SENT: [&str; 9] = [
    "call_request",
    "call_accept",
    "call_hangup",
    "rtc_capabilities",
    "rtc_create_transport",
    "rtc_connect_transport",
    "rtc_produce",
    "rtc_consume",
    "rtc_resume",
];

/// What both sides must show once the bill is there.
pub(crate) fn shown(record: &Record, call_id: &str) -> Value {
    let settled = &record.settled.payload;
    json!({
        "id": call_id,
        "connected": time_of_day(settled["connectedAt"].as_str().unwrap()),
        "ended": time_of_day(settled["endedAt"].as_str().unwrap()),
        "duration": span(settled["durationMs"].as_i64().unwrap()),
        "billed": format!("{} min", settled["billedMinutes"]),
        "reason": settled["reason"],
    })
}

/// No side shows a minute that is not stored, and each this one at least.
pub(crate) async fn assert_minutes_are_stored(scene: &Scene, call_id: &str, minutes: &Value, least: usize) {
    let stored = scene.facts.of_call(call_id).await.unwrap();
    let stored = stored.iter().filter(|fact| fact.name == "tick").count();
    for side in ["user", "otomo"] {
        let minute = usize::try_from(minutes[side].as_u64().unwrap()).unwrap();
        assert!((least..=stored).contains(&minute), "{side} shows {minute} of {stored}");
    }
}

/// The server has heard both sides without a pause until now.
pub(crate) async fn assert_nothing_was_missed(scene: &Scene, call_id: &str) {
    let stored = scene.facts.of_call(call_id).await.unwrap();
    let names: Vec<&str> = stored.iter().map(|fact| fact.name.as_str()).collect();
    assert!(!names.contains(&"rtp_lost"), "{names:?}");
}

/// Both sides show the record that is stored.
pub(crate) async fn assert_record(scene: &Scene, script: &mut Script, call_id: &str, reason: &str) -> Record {
    let seen = script.hear("record").await.unwrap();
    let record = Record::whole(&scene.facts, call_id, INTERVAL_MS, SOON).await.unwrap();
    assert_eq!(record.settled.text("reason").unwrap(), reason);
    for side in ["user", "otomo"] {
        assert_eq!(seen[side], shown(&record, call_id), "{side}");
    }
    record
}

/// The consoles are clean.
pub(crate) fn assert_no_complaints(windows: &Value) {
    for (name, window) in windows.as_object().unwrap() {
        assert_eq!(window["complaints"], json!([]), "in the console of {name}");
    }
}

#[tokio::test]
async fn a_call_is_seen_and_heard_as_it_is_stored() {
    let Some(scene) = Scene::set("call").await.unwrap() else {
        return;
    };
    let mut script = scene.play("call").await.unwrap();

    let connected = script.hear("connected").await.unwrap();
    let detected = scene.shown_alike(&connected, &["user", "otomo"]).await.unwrap();
    let call_id = detected.call_id.clone();
    let minutes = script.hear("minute").await.unwrap();
    assert_minutes_are_stored(&scene, &call_id, &minutes, 1).await;
    let muted = script.hear("muted").await.unwrap();
    assert_eq!(muted, json!({ "note": "You are muted.", "missed": false }));
    let minutes = script.hear("another_minute").await.unwrap();
    assert_minutes_are_stored(&scene, &call_id, &minutes, 2).await;
    // A muted microphone is no loss.
    assert_nothing_was_missed(&scene, &call_id).await;
    script.done("another_minute").await.unwrap();

    let record = assert_record(&scene, &mut script, &call_id, "hangup").await;
    assert_eq!(record.ended.text("by").unwrap(), "otomo");
    // Nor is it one to hang up.
    assert_nothing_was_missed(&scene, &call_id).await;

    let windows = script.end().await.unwrap();
    assert_no_complaints(&windows);
    for side in ["user", "otomo"] {
        let sent = windows[side]["sent"].as_array().unwrap();
        assert!(sent.iter().any(|message| message == "rtc_produce"), "{sent:?}");
        for message in sent {
            assert!(
                MAY_BE_SENT.contains(&message.as_str().unwrap()),
                "{side} sent {message}"
            );
        }
    }
}
