//! A reload in the middle of a call.

use crate::call::{assert_minutes_are_stored, assert_no_complaints, assert_record};
use crate::scene::Scene;

#[tokio::test]
async fn a_reloaded_page_is_back_in_its_call_with_the_original_time_and_its_sound() {
    let Some(scene) = Scene::set("reload").await.unwrap() else {
        return;
    };
    let mut script = scene.play("reload").await.unwrap();
    let connected = script.hear("connected").await.unwrap();
    let call_id = scene.shown_alike(&connected, &["user", "otomo"]).await.unwrap().call_id;

    let resumed = script.hear("resumed").await.unwrap();
    scene.shown_alike(&resumed, &["user", "otomo"]).await.unwrap();
    let minutes = script.hear("minute").await.unwrap();
    let before = usize::try_from(minutes["before"].as_u64().unwrap()).unwrap();
    assert_minutes_are_stored(&scene, &call_id, &minutes, before + 1).await;

    let record = assert_record(&scene, &mut script, &call_id, "hangup").await;
    assert_eq!(record.ended.text("by").unwrap(), "user");
    let windows = script.end().await.unwrap();
    assert_no_complaints(&windows);
}
