use anyhow::ensure;
use callpulse_tests::wait::eventually;
use contract::Role;
use contract::jetstream::request::RefusalCode;

use crate::rig::{Rig, SOON, asker, code, metric};

const QUICK: [(&str, &str); 3] = [
    ("stats_interval_ms", "100"),
    ("rtp_lost_after_ms", "1000"),
    ("rtp_timeout_ms", "3000"),
];

#[tokio::test]
async fn silence_is_told_and_undone_and_in_the_end_ends_the_call() {
    let rig = Rig::start(&QUICK).await;
    let parties = rig.call().await;
    let call = parties.call_id.as_str();
    let hears = rig.notices(&parties.party(Role::Otomo)).await;
    let speaker = rig.join(&asker(&parties, Role::User)).await;
    speaker.talk().await;
    hears.expect("call_connected").await;

    speaker.hush().await;
    assert_eq!(hears.expect("media_lost").await["party"], "user");
    speaker.talk().await;
    assert_eq!(hears.expect("media_resumed").await["party"], "user");
    let lost = rig.facts.expect(call, "rtp_lost", SOON).await.unwrap();
    let resumed = rig.facts.expect(call, "rtp_resumed", SOON).await.unwrap();
    assert!(lost.payload["gapMs"].as_u64().unwrap() >= 1000);
    assert!(resumed.time("at").unwrap() > lost.time("lastRtpAt").unwrap());

    speaker.hush().await;
    let ended = rig.facts.expect(call, "ended", SOON).await.unwrap();
    assert_eq!(ended.payload["reason"], "rtp_timeout");
    let last_lost = rig
        .facts
        .of_call(call)
        .await
        .unwrap()
        .into_iter()
        .rfind(|fact| fact.name == "rtp_lost")
        .unwrap();
    assert_eq!(
        ended.payload["endedAt"], last_lost.payload["lastRtpAt"],
        "it was over with the last packet"
    );
    let names = ["rtp_detected", "rtp_lost", "rtp_resumed", "rtp_lost", "ended"];
    assert_eq!(rig.stored(&parties).await, names);
    assert_eq!(code(rig.hang_up(&parties).await), RefusalCode::UnknownCall);
    eventually("no call left", SOON, async || {
        ensure!(metric(&rig.worker, "callpulse_media_calls").await? == 0.0);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn one_silent_party_is_told_and_ends_nothing() {
    let rig = Rig::start(&QUICK).await;
    let parties = rig.call().await;
    let hears = rig.notices(&parties.party(Role::User)).await;
    let user = rig.join(&asker(&parties, Role::User)).await;
    let otomo = rig.join(&asker(&parties, Role::Otomo)).await;
    user.talk().await;
    otomo.talk().await;
    let listener = rig.listen(&asker(&parties, Role::User)).await;
    eventually("the user hears the otomo", SOON, async || {
        ensure!(listener.received() > 50, "{} packets", listener.received());
        Ok(())
    })
    .await
    .unwrap();
    otomo.send.cut().await.unwrap();
    assert_eq!(hears.expect("media_lost").await["party"], "otomo");
    // Three times as long as everybody's silence would take.
    let before = user.send.sent();
    eventually("nine seconds of talk", SOON, async || {
        ensure!(
            user.send.sent() > before + 9 * 50,
            "{} packets",
            user.send.sent() - before
        );
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rig.stored(&parties).await, ["rtp_detected", "rtp_lost"]);
    otomo.send.mend().await.unwrap();
    assert_eq!(hears.expect("media_resumed").await["party"], "otomo");
}

#[tokio::test]
async fn one_silent_party_ends_the_call_where_configured() {
    let rig = Rig::start(&[
        ("stats_interval_ms", "100"),
        ("rtp_lost_after_ms", "1000"),
        ("one_sided_timeout_ms", "2000"),
    ])
    .await;
    let parties = rig.call().await;
    let user = rig.join(&asker(&parties, Role::User)).await;
    let otomo = rig.join(&asker(&parties, Role::Otomo)).await;
    user.talk().await;
    otomo.talk().await;
    let listener = rig.listen(&asker(&parties, Role::User)).await;
    eventually("the user hears the otomo", SOON, async || {
        ensure!(listener.received() > 50, "{} packets", listener.received());
        Ok(())
    })
    .await
    .unwrap();
    otomo.hush().await;
    let call = parties.call_id.as_str();
    let ended = rig.facts.expect(call, "ended", SOON).await.unwrap();
    let lost = rig.facts.expect(call, "rtp_lost", SOON).await.unwrap();
    assert_eq!(ended.payload["reason"], "rtp_timeout");
    assert_eq!(lost.payload["party"], "otomo");
    assert_eq!(ended.payload["endedAt"], lost.payload["lastRtpAt"]);
}
