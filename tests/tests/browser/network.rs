//! The WebSocket of one side is interrupted for a while; RTP takes another path.

use callpulse_tests::servers::proxy::Proxy;
use serde_json::json;

use crate::call::{assert_no_media_lost, assert_record};
use crate::fixture::Fixture;

#[tokio::test]
async fn an_interrupted_page_shows_it_and_catches_up_after_reconnecting() {
    let Some(fixture) = Fixture::start("network").await.unwrap() else {
        return;
    };
    let cable = Proxy::to(fixture.stack.edge(0).unwrap()).await.unwrap();
    let addresses = fixture.addresses(&cable.address().to_string()).unwrap();
    let mut script = fixture.run_script_at("network", addresses).await.unwrap();
    let call_id = fixture.expect_connected(&mut script).await.unwrap();

    script.expect("cut").await.unwrap();
    cable.cut();
    script.done("cut").await.unwrap();
    let offline = script.expect("offline").await.unwrap();
    fixture.expect_shown_time(&offline, &["user", "otomo"]).await.unwrap();
    let note = offline["note"].as_str().unwrap();
    assert!(
        note.contains("The call continues; this page reconnects automatically."),
        "{note}"
    );
    // The interrupted page shows no minute that it has not received. Hanging up is still possible.
    let minutes = &offline["minutes"];
    assert_eq!(minutes["user"], minutes["old"]);
    assert!(minutes["otomo"].as_u64() > minutes["user"].as_u64(), "{minutes}");
    assert_eq!(offline["hangUp"], json!(true));

    script.expect("restore").await.unwrap();
    assert_no_media_lost(&fixture, &call_id).await;
    cable.restore();
    script.done("restore").await.unwrap();
    let online = script.expect("online").await.unwrap();
    fixture.expect_shown_time(&online, &["user", "otomo"]).await.unwrap();
    assert!(online["minute"].as_u64() >= minutes["otomo"].as_u64(), "{online}");
    assert_eq!(online["note"], json!(false));

    script.expect("cut").await.unwrap();
    cable.cut();
    script.done("cut").await.unwrap();
    script.expect("restore").await.unwrap();
    cable.restore();
    script.done("restore").await.unwrap();
    let record = assert_record(&fixture, &mut script, &call_id, "hangup").await;
    assert_eq!(record.ended.text("by").unwrap(), "otomo");
    let windows = script.end().await.unwrap();
    // The browser itself logs failed connections.
    for complaint in windows["user"]["complaints"].as_array().unwrap() {
        assert!(
            complaint.as_str().unwrap().contains("WebSocket connection to"),
            "{complaint}"
        );
    }
    assert_eq!(windows["otomo"]["complaints"], json!([]));
}
