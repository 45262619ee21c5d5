use anyhow::ensure;
use callpulse_tests::wait::eventually;
use contract::Role;
use contract::jetstream::request::RefusalCode;

use crate::fixture::{Fixture, SOON, code, metric_becomes, receives, requester};

const QUICK: [(&str, &str); 3] = [
    ("stats_interval_ms", "100"),
    ("rtp_lost_after_ms", "1000"),
    ("rtp_timeout_ms", "3000"),
];

#[tokio::test]
async fn silence_is_reported_then_resumed_and_finally_ends_the_call() {
    let fixture = Fixture::start(&QUICK).await;
    let parties = fixture.call().await;
    let call = parties.call_id.as_str();
    let notices = fixture.notices(&parties.party(Role::Otomo)).await;
    let speaker = fixture.join(&requester(&parties, Role::User)).await;
    let peer = fixture.join(&requester(&parties, Role::Otomo)).await;
    speaker.talk().await;
    peer.talk().await;
    notices.expect("call_connected").await;

    let states = |state| format!("callpulse_media_call_states{{state=\"{state}\"}}");
    metric_becomes(&fixture.worker, &states("connected"), 1.0).await;
    speaker.stop_talking().await;
    assert_eq!(notices.expect("media_lost").await["party"], "user");
    metric_becomes(&fixture.worker, &states("lost"), 1.0).await;
    speaker.talk().await;
    assert_eq!(notices.expect("media_resumed").await["party"], "user");
    let lost = fixture.fact(&parties, "rtp_lost").await;
    let resumed = fixture.fact(&parties, "rtp_resumed").await;
    assert!(lost.payload["gapMs"].as_u64().unwrap() >= 1000);
    assert!(resumed.time("at").unwrap() > lost.time("lastRtpAt").unwrap());

    speaker.stop_talking().await;
    peer.stop_talking().await;
    let ended = fixture.fact(&parties, "ended").await;
    assert_eq!(ended.payload["reason"], "rtp_timeout");
    let last_lost = fixture
        .facts
        .of_call(call)
        .await
        .unwrap()
        .into_iter()
        .rfind(|fact| fact.name == "rtp_lost")
        .unwrap();
    let later = ended.time("endedAt").unwrap() - last_lost.time("lastRtpAt").unwrap();
    assert!(
        (-100..1000).contains(&later.num_milliseconds()),
        "the call ended with the last packet: {later}"
    );
    let names = [
        "rtp_detected",
        "media_started",
        "rtp_lost",
        "rtp_resumed",
        "rtp_lost",
        "rtp_lost",
        "ended",
    ];
    assert_eq!(fixture.stored(&parties).await, names);
    assert_eq!(code(fixture.hang_up(&parties).await), RefusalCode::UnknownCall);
    metric_becomes(&fixture.worker, "callpulse_media_calls", 0.0).await;
}

#[tokio::test]
async fn the_silence_of_one_party_is_reported_and_the_call_continues() {
    let fixture = Fixture::start(&QUICK).await;
    let parties = fixture.call().await;
    let notices = fixture.notices(&parties.party(Role::User)).await;
    let user = fixture.join(&requester(&parties, Role::User)).await;
    let otomo = fixture.join(&requester(&parties, Role::Otomo)).await;
    user.talk().await;
    otomo.talk().await;
    let listener = fixture.listen(&requester(&parties, Role::User)).await;
    receives(&listener, 50).await;
    otomo.send.cut().await.unwrap();
    assert_eq!(notices.expect("media_lost").await["party"], "otomo");
    // Three times the RTP timeout.
    let before = user.send.sent();
    eventually("nine seconds of RTP", SOON, async || {
        ensure!(
            user.send.sent() > before + 9 * 50,
            "{} packets",
            user.send.sent() - before
        );
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started", "rtp_lost"]
    );
    otomo.send.restore().await.unwrap();
    assert_eq!(notices.expect("media_resumed").await["party"], "otomo");
}

#[tokio::test]
async fn the_silence_of_one_party_ends_the_call_if_configured() {
    let fixture = Fixture::start(&[
        ("stats_interval_ms", "100"),
        ("rtp_lost_after_ms", "1000"),
        ("one_sided_timeout_ms", "2000"),
    ])
    .await;
    let parties = fixture.call().await;
    let user = fixture.join(&requester(&parties, Role::User)).await;
    let otomo = fixture.join(&requester(&parties, Role::Otomo)).await;
    user.talk().await;
    otomo.talk().await;
    let listener = fixture.listen(&requester(&parties, Role::User)).await;
    receives(&listener, 50).await;
    otomo.stop_talking().await;
    let ended = fixture.fact(&parties, "ended").await;
    let lost = fixture.fact(&parties, "rtp_lost").await;
    assert_eq!(ended.payload["reason"], "rtp_timeout");
    assert_eq!(lost.payload["party"], "otomo");
    assert_eq!(ended.payload["party"], "otomo");
    let silent = ended.time("endedAt").unwrap() - lost.time("lastRtpAt").unwrap();
    assert!(silent.num_milliseconds() >= 2_000, "it ends at that moment: {silent}");
}
