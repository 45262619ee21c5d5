//! The browser denies the microphone.

use serde_json::{Value, json};

use crate::call::{assert_clean_consoles, assert_no_media_lost, assert_record};
use crate::fixture::Fixture;

fn assert_shows_advice(refusal: &Value) {
    assert_eq!(refusal["code"], "microphone_refused");
    assert_eq!(refusal["role"], "alert");
    let advice = refusal["advice"].as_str().unwrap();
    assert!(
        advice.contains("Allow it beside the address bar, then try again."),
        "{advice}"
    );
}

#[tokio::test]
async fn a_denied_microphone_shows_advice_and_the_call_can_still_be_made() {
    let Some(fixture) = Fixture::start("microphone").await.unwrap() else {
        return;
    };
    let mut script = fixture.run_script("microphone").await.unwrap();

    assert_shows_advice(&script.expect("caller_refused").await.unwrap());
    let stored = fixture.facts.all().await.unwrap();
    assert!(
        stored.is_empty(),
        "no call is requested without a microphone: {stored:?}"
    );
    script.done("caller_refused").await.unwrap();

    assert_shows_advice(&script.expect("called_refused").await.unwrap());
    let call_id = fixture.call_id().await.unwrap();
    let stored = fixture.facts.of_call(&call_id).await.unwrap();
    assert_eq!(stored.len(), 1, "the call continues to ring: {stored:?}");
    script.done("called_refused").await.unwrap();

    let connected = script.expect("connected").await.unwrap();
    fixture.expect_shown_time(&connected, &["user", "otomo"]).await.unwrap();
    let problems = script.expect("problems").await.unwrap();
    assert_eq!(problems, json!({ "user": false, "otomo": false }));
    assert_record(&fixture, &mut script, &call_id, "hangup").await;
    assert_no_media_lost(&fixture, &call_id).await;
    let windows = script.end().await.unwrap();
    assert_clean_consoles(&windows);
}
