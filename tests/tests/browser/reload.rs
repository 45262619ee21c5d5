//! A reload in the middle of a call.

use crate::call::{assert_clean_consoles, assert_minutes_are_stored, assert_record};
use crate::fixture::Fixture;

#[tokio::test]
async fn a_reloaded_page_returns_to_its_call_with_the_original_time_and_audio() {
    let Some(fixture) = Fixture::start("reload").await.unwrap() else {
        return;
    };
    let mut script = fixture.run_script("reload").await.unwrap();
    let call_id = fixture.expect_connected(&mut script).await.unwrap();

    let resumed = script.expect("resumed").await.unwrap();
    fixture.expect_shown_time(&resumed, &["user", "otomo"]).await.unwrap();
    let minutes = script.expect("minute").await.unwrap();
    let before = usize::try_from(minutes["before"].as_u64().unwrap()).unwrap();
    assert_minutes_are_stored(&fixture, &call_id, &minutes, before + 1).await;

    let record = assert_record(&fixture, &mut script, &call_id, "hangup").await;
    assert_eq!(record.ended.text("by").unwrap(), "user");
    let windows = script.end().await.unwrap();
    assert_clean_consoles(&windows);
}
