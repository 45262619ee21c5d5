use anyhow::ensure;
use callpulse_tests::wait::eventually;
use chrono::{DateTime, Utc};
use contract::Role;
use contract::jetstream::request::RefusalCode;
use serde_json::json;

use crate::rig::{Rig, SOON, asker, code, metric, rtp_parameters};

#[tokio::test]
async fn the_first_packet_with_a_payload_connects_the_call_and_both_are_told() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let (user, otomo) = (asker(&parties, Role::User), asker(&parties, Role::Otomo));
    let user_hears = rig.notices(&parties.party(Role::User)).await;
    let otomo_hears = rig.notices(&parties.party(Role::Otomo)).await;
    let watch = rig.facts.watch().await.unwrap();

    let speaker = rig.join(&user).await;
    let told = otomo_hears.expect("rtc_new_producer").await;
    assert_eq!(told["producerId"], speaker.producer_id.as_str());
    assert_eq!(user_hears.count("rtc_new_producer"), 0, "who produces knows");

    speaker.send.send_padding_only(speaker.ssrc, 5).await.unwrap();
    // The SFU has the padding when a later command is answered and the counter moved; then nothing may be stored.
    let listener = rig.listen(&otomo).await;
    assert_eq!(rig.stored(&parties).await, [""; 0], "padding is no voice");

    speaker.talk().await;
    let fact = watch
        .expect(parties.call_id.as_str(), "rtp_detected", SOON)
        .await
        .unwrap();
    assert_eq!(fact.payload["detectedFrom"], "user");
    assert_eq!(fact.payload["method"], "sfu_rtp_detected");
    assert_eq!(fact.payload["workerId"], "mw-1");
    assert_eq!(fact.payload["producerId"], speaker.producer_id.as_str());
    assert_eq!(fact.payload["ssrc"], speaker.ssrc);
    assert_eq!(
        fact.headers.get("ce-type").unwrap().as_str(),
        "callpulse.call.rtp_detected"
    );
    let connected_at = fact.time("connectedAt").unwrap();
    let sent_at = DateTime::<Utc>::from(speaker.send.first_datagram_sent_at().unwrap().wall);
    // The time is written in whole milliseconds, cut.
    assert!(
        connected_at.timestamp_millis() >= sent_at.timestamp_millis(),
        "{connected_at} before {sent_at}"
    );
    assert!(
        connected_at <= fact.taken_in_at,
        "{connected_at} after {}",
        fact.taken_in_at
    );

    for hears in [&user_hears, &otomo_hears] {
        let notice = hears.expect("call_connected").await;
        let expected = json!({
            "callId": parties.call_id, "userId": parties.user_id, "otomoId": parties.otomo_id,
            "connectedAt": fact.payload["connectedAt"], "method": "sfu_rtp_detected",
        });
        assert_eq!(notice, expected);
    }

    let second = rig.join(&otomo).await;
    second.talk().await;
    eventually("the otomo hears the user", SOON, async || {
        ensure!(listener.received() > 20, "{} packets", listener.received());
        Ok(())
    })
    .await
    .unwrap();
    let user_listener = rig.listen(&user).await;
    eventually("the user hears the otomo", SOON, async || {
        ensure!(user_listener.received() > 20, "{} packets", user_listener.received());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        rig.stored(&parties).await,
        ["rtp_detected"],
        "the second party changes nothing"
    );
    assert_eq!(
        (user_hears.count("call_connected"), otomo_hears.count("call_connected")),
        (1, 1)
    );
    assert_eq!(
        metric(&rig.worker, "callpulse_media_connected_total").await.unwrap(),
        1.0
    );
}

#[tokio::test]
async fn both_are_waited_for_where_that_is_the_policy() {
    let rig = Rig::start(&[("connect_policy", "both_rtp")]).await;
    let parties = rig.call().await;
    let user = rig.join(&asker(&parties, Role::User)).await;
    let listener = rig.join(&asker(&parties, Role::Otomo)).await;
    user.talk().await;
    let hears = rig.listen(&asker(&parties, Role::Otomo)).await;
    eventually("the otomo hears the user", SOON, async || {
        ensure!(hears.received() > 20, "{} packets", hears.received());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rig.stored(&parties).await, [""; 0], "one party is not both");
    listener.talk().await;
    let fact = rig
        .facts
        .expect(parties.call_id.as_str(), "rtp_detected", SOON)
        .await
        .unwrap();
    assert_eq!(
        (&fact.payload["detectedFrom"], &fact.payload["ssrc"]),
        (&json!("otomo"), &json!(listener.ssrc))
    );
}

#[tokio::test]
async fn a_new_transport_replaces_the_old_one_and_the_call_goes_on() {
    let rig = Rig::start(&[("stats_interval_ms", "100"), ("rtp_lost_after_ms", "1000")]).await;
    let parties = rig.call().await;
    let user = asker(&parties, Role::User);
    let hears = rig.notices(&parties.party(Role::Otomo)).await;
    let first = rig.join(&user).await;
    first.talk().await;
    rig.facts
        .expect(parties.call_id.as_str(), "rtp_detected", SOON)
        .await
        .unwrap();
    first.send.cut().await.unwrap();

    let second = rig.join(&user).await;
    let again = rig.produce(&user, &first.transport_id, rtp_parameters(100, 7)).await;
    assert_eq!(code(again), RefusalCode::UnknownTransport, "the old transport is gone");
    hears.expect("media_lost").await;
    second.talk().await;
    hears.expect("media_resumed").await;
    assert_eq!(rig.stored(&parties).await, ["rtp_detected", "rtp_lost", "rtp_resumed"]);
    assert_eq!(hears.count("rtc_new_producer"), 2, "the peer must consume the new one");
    assert_eq!(hears.count("call_connected"), 1);
}

#[tokio::test]
async fn what_happens_while_nats_is_away_is_stored_with_its_time_when_it_is_back() {
    let mut rig = Rig::start(&[]).await;
    let (one, two) = (rig.call().await, rig.call().await);
    let first = rig.join(&asker(&one, Role::User)).await;
    let second = rig.join(&asker(&two, Role::Otomo)).await;
    let hears = rig.notices(&one.party(Role::User)).await;
    rig.nats.kill().unwrap();

    first.talk().await;
    second.talk().await;
    eventually("both facts waiting", SOON, async || {
        let waiting = metric(&rig.worker, "callpulse_media_outbox_facts").await?;
        ensure!(waiting == 2.0, "{waiting} facts wait");
        Ok(())
    })
    .await
    .unwrap();
    let away_until = Utc::now();
    rig.nats.restart().await.unwrap();

    for (parties, speaker) in [(&one, &first), (&two, &second)] {
        let fact = rig
            .facts
            .expect(parties.call_id.as_str(), "rtp_detected", SOON)
            .await
            .unwrap();
        let sent_at = DateTime::<Utc>::from(speaker.send.first_datagram_sent_at().unwrap().wall);
        let connected_at = fact.time("connectedAt").unwrap();
        assert!(connected_at.timestamp_millis() >= sent_at.timestamp_millis() && connected_at < away_until);
        assert!(fact.taken_in_at >= away_until);
    }
    hears.expect("call_connected").await;
    eventually("an empty outbox", SOON, async || {
        let waiting = metric(&rig.worker, "callpulse_media_outbox_facts").await?;
        ensure!(waiting == 0.0, "{waiting} facts wait");
        Ok(())
    })
    .await
    .unwrap();
}
