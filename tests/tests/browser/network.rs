//! The network of one side is away for a while: the WebSocket's, since RTP goes its own way.

use callpulse_tests::proxy::Proxy;
use serde_json::json;

use crate::call::{assert_nothing_was_missed, assert_record};
use crate::scene::Scene;

#[tokio::test]
async fn a_page_that_is_cut_off_says_so_and_is_told_what_it_missed_when_it_is_back() {
    let Some(scene) = Scene::set("network").await.unwrap() else {
        return;
    };
    let cable = Proxy::to(scene.stack.edge(0).unwrap()).await.unwrap();
    let addresses = scene.addresses(&cable.address().to_string()).unwrap();
    let mut script = scene.play_at("network", addresses).await.unwrap();
    let connected = script.hear("connected").await.unwrap();
    let call_id = scene.shown_alike(&connected, &["user", "otomo"]).await.unwrap().call_id;

    script.hear("cut").await.unwrap();
    cable.cut();
    script.done("cut").await.unwrap();
    let offline = script.hear("offline").await.unwrap();
    scene.shown_alike(&offline, &["user", "otomo"]).await.unwrap();
    let note = offline["note"].as_str().unwrap();
    assert!(
        note.contains("The call continues; this page reconnects automatically."),
        "{note}"
    );
    // The minutes passed elsewhere; this page says nothing that it was not told. To let go is possible all the same.
    let minutes = &offline["minutes"];
    assert_eq!(minutes["user"], minutes["old"]);
    assert!(minutes["otomo"].as_u64() > minutes["user"].as_u64(), "{minutes}");
    assert_eq!(offline["hangUp"], json!(true));

    script.hear("mend").await.unwrap();
    assert_nothing_was_missed(&scene, &call_id).await;
    cable.mend();
    script.done("mend").await.unwrap();
    let online = script.hear("online").await.unwrap();
    scene.shown_alike(&online, &["user", "otomo"]).await.unwrap();
    assert!(online["minute"].as_u64() >= minutes["otomo"].as_u64(), "{online}");
    assert_eq!(online["note"], json!(false));

    let record = assert_record(&scene, &mut script, &call_id, "hangup").await;
    assert_eq!(record.ended.text("by").unwrap(), "user");
    let windows = script.end().await.unwrap();
    // The browser itself writes there that it could not connect.
    for complaint in windows["user"]["complaints"].as_array().unwrap() {
        assert!(
            complaint.as_str().unwrap().contains("WebSocket connection to"),
            "{complaint}"
        );
    }
    assert_eq!(windows["otomo"]["complaints"], json!([]));
}
