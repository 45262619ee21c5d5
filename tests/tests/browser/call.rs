//! A whole call between two windows.

use callpulse_tests::facts::record::Record;
use serde_json::{Value, json};

use crate::fixture::{Fixture, INTERVAL_MS, SOON, span, time_of_day};
use crate::script::Script;

/// All requests that a page may send. None reports a state of the call.
const MAY_BE_SENT: [&str; 11] = [
    "call_request",
    "call_accept",
    "call_hangup",
    "rtc_capabilities",
    "rtc_create_transport",
    "rtc_connect_transport",
    "rtc_produce",
    "rtc_consume",
    "rtc_resume",
    "rtc_restart_ice",
    "ping",
];

/// The record that both sides must show after settlement.
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

/// Each side shows at least this minute, and none that is not stored.
pub(crate) async fn assert_minutes_are_stored(fixture: &Fixture, call_id: &str, minutes: &Value, least: usize) {
    let stored = fixture.facts.of_call(call_id).await.unwrap();
    let stored = stored.iter().filter(|fact| fact.name == "tick").count();
    for side in ["user", "otomo"] {
        let minute = usize::try_from(minutes[side].as_u64().unwrap()).unwrap();
        assert!((least..=stored).contains(&minute), "{side} shows {minute} of {stored}");
    }
}

/// No RTP was lost so far.
pub(crate) async fn assert_no_media_lost(fixture: &Fixture, call_id: &str) {
    let stored = fixture.facts.of_call(call_id).await.unwrap();
    let names: Vec<&str> = stored.iter().map(|fact| fact.name.as_str()).collect();
    assert!(!names.contains(&"rtp_lost"), "{names:?}");
}

/// Both sides show the stored record.
pub(crate) async fn assert_record(fixture: &Fixture, script: &mut Script, call_id: &str, reason: &str) -> Record {
    let seen = script.expect("record").await.unwrap();
    let record = Record::checked(&fixture.facts, call_id, INTERVAL_MS, SOON)
        .await
        .unwrap();
    assert_eq!(record.settled.text("reason").unwrap(), reason);
    for side in ["user", "otomo"] {
        assert_eq!(seen[side], shown(&record, call_id), "{side}");
    }
    record
}

/// The consoles have no errors or warnings.
pub(crate) fn assert_clean_consoles(windows: &Value) {
    for (name, window) in windows.as_object().unwrap() {
        assert_eq!(window["complaints"], json!([]), "in the console of {name}");
    }
}

#[tokio::test]
async fn both_sides_show_and_hear_a_call_as_it_is_stored() {
    let Some(fixture) = Fixture::start("call").await.unwrap() else {
        return;
    };
    let mut script = fixture.run_script("call").await.unwrap();

    let call_id = fixture.expect_connected(&mut script).await.unwrap();
    let minutes = script.expect("minute").await.unwrap();
    assert_minutes_are_stored(&fixture, &call_id, &minutes, 1).await;
    let muted = script.expect("muted").await.unwrap();
    assert_eq!(muted, json!({ "note": "You are muted.", "missed": false }));
    let minutes = script.expect("another_minute").await.unwrap();
    assert_minutes_are_stored(&fixture, &call_id, &minutes, 2).await;
    // Muting does not count as lost RTP.
    assert_no_media_lost(&fixture, &call_id).await;
    script.done("another_minute").await.unwrap();

    let record = assert_record(&fixture, &mut script, &call_id, "hangup").await;
    assert_eq!(record.ended.text("by").unwrap(), "otomo");
    // Neither does hanging up.
    assert_no_media_lost(&fixture, &call_id).await;

    let windows = script.end().await.unwrap();
    assert_clean_consoles(&windows);
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
