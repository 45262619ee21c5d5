//! The browser does not let a page use the microphone.

use serde_json::{Value, json};

use crate::call::{assert_no_complaints, assert_nothing_was_missed, assert_record};
use crate::scene::Scene;

fn assert_says_what_to_do(refusal: &Value) {
    assert_eq!(refusal["code"], "microphone_refused");
    assert_eq!(refusal["role"], "alert");
    let advice = refusal["advice"].as_str().unwrap();
    assert!(
        advice.contains("Allow it beside the address bar, then try again."),
        "{advice}"
    );
}

#[tokio::test]
async fn a_refused_microphone_leaves_advice_and_a_call_that_can_still_be_made() {
    let Some(scene) = Scene::set("microphone").await.unwrap() else {
        return;
    };
    let mut script = scene.play("microphone").await.unwrap();

    assert_says_what_to_do(&script.hear("caller_refused").await.unwrap());
    let stored = scene.facts.all().await.unwrap();
    assert!(stored.is_empty(), "nobody is called without a microphone: {stored:?}");
    script.done("caller_refused").await.unwrap();

    assert_says_what_to_do(&script.hear("called_refused").await.unwrap());
    let call_id = scene.call_id().await.unwrap();
    let stored = scene.facts.of_call(&call_id).await.unwrap();
    assert_eq!(stored.len(), 1, "it goes on ringing: {stored:?}");
    script.done("called_refused").await.unwrap();

    let connected = script.hear("connected").await.unwrap();
    scene.shown_alike(&connected, &["user", "otomo"]).await.unwrap();
    let problems = script.hear("problems").await.unwrap();
    assert_eq!(problems, json!({ "user": false, "otomo": false }));
    assert_record(&scene, &mut script, &call_id, "hangup").await;
    assert_nothing_was_missed(&scene, &call_id).await;
    let windows = script.end().await.unwrap();
    assert_no_complaints(&windows);
}
