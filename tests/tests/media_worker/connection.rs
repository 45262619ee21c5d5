use callpulse_tests::facts::contract_client::ContractClient;
use chrono::{DateTime, Utc};
use contract::jetstream::request::RefusalCode;
use contract::samples::accepted;
use contract::wire::fact::Accepted;
use contract::{PublishCondition, Role, Timestamp};
use serde_json::json;

use crate::fixture::{Fixture, SOON, code, metric_becomes, receives, requester, rtp_parameters};

#[tokio::test]
async fn the_first_packet_with_a_payload_connects_the_call_and_notifies_both_parties() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let (user, otomo) = (requester(&parties, Role::User), requester(&parties, Role::Otomo));
    let user_notices = fixture.notices(&parties.party(Role::User)).await;
    let otomo_notices = fixture.notices(&parties.party(Role::Otomo)).await;
    let watch = fixture.facts.watch().await.unwrap();

    let speaker = fixture.join(&user).await;
    let notice = otomo_notices.expect("rtc_new_producer").await;
    assert_eq!(notice["producerId"], speaker.producer_id.as_str());
    assert_eq!(user_notices.count("rtc_new_producer"), 0, "not to the producer itself");

    speaker.send.send_padding_only(speaker.ssrc, 5).await.unwrap();
    // After the reply to a later command, the SFU has received the padding.
    let listener = fixture.listen(&otomo).await;
    assert_eq!(fixture.stored(&parties).await, [""; 0], "padding does not connect");

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
    // The time is truncated to milliseconds.
    assert!(
        connected_at.timestamp_millis() >= sent_at.timestamp_millis(),
        "{connected_at} before {sent_at}"
    );
    assert!(
        connected_at <= fact.server_time,
        "{connected_at} after {}",
        fact.server_time
    );

    for notices in [&user_notices, &otomo_notices] {
        let notice = notices.expect("call_connected").await;
        let expected = json!({
            "callId": parties.call_id, "userId": parties.user_id, "otomoId": parties.otomo_id,
            "connectedAt": fact.payload["connectedAt"], "method": "sfu_rtp_detected",
        });
        assert_eq!(notice, expected);
    }

    let second = fixture.join(&otomo).await;
    second.talk().await;
    receives(&listener, 20).await;
    let user_listener = fixture.listen(&user).await;
    receives(&user_listener, 20).await;
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started"],
        "the second party does not connect the call again"
    );
    assert_eq!(
        (
            user_notices.count("call_connected"),
            otomo_notices.count("call_connected")
        ),
        (1, 1)
    );
    assert_eq!(
        fixture.worker.metric("callpulse_media_connected_total").await.unwrap(),
        Some(1.0)
    );
}

#[tokio::test]
async fn a_call_is_connected_although_it_has_changed_since_its_acceptance_was_read_ahead() {
    let fixture = Fixture::start(&[]).await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    for (changes, expected) in [
        (false, ["accepted", "rtp_detected", "media_started"].as_slice()),
        (
            true,
            &["accepted", "moon_rose", "rtp_detected", "moon_rose", "media_started"],
        ),
    ] {
        let parties = fixture.call().await;
        let accepted = Accepted {
            worker_id: fixture.worker_id.clone(),
            ..accepted(parties.call_id.as_str(), Timestamp::now())
        };
        client.publish(accepted, PublishCondition::First).await.unwrap();
        let change = async || {
            if changes {
                let subject = format!("call.{}.moon_rose", parties.call_id);
                client.publish_unconditionally(subject, "{}".into()).await.unwrap();
            }
        };
        let user = fixture.join(&requester(&parties, Role::User)).await;
        let otomo = fixture.join(&requester(&parties, Role::Otomo)).await;
        change().await;
        user.talk().await;
        fixture.fact(&parties, "rtp_detected").await;
        change().await;
        otomo.talk().await;
        fixture.fact(&parties, "media_started").await;
        assert_eq!(fixture.stored(&parties).await, expected);
    }
}

#[tokio::test]
async fn with_the_policy_both_rtp_a_call_connects_after_both_parties_have_sent() {
    let fixture = Fixture::start(&[("connect_policy", "both_rtp")]).await;
    let parties = fixture.call().await;
    let user = fixture.join(&requester(&parties, Role::User)).await;
    let listener = fixture.join(&requester(&parties, Role::Otomo)).await;
    user.talk().await;
    let hears = fixture.listen(&requester(&parties, Role::Otomo)).await;
    receives(&hears, 20).await;
    assert_eq!(fixture.stored(&parties).await, ["media_started"], "one party has sent");
    listener.talk().await;
    let fact = fixture.fact(&parties, "rtp_detected").await;
    assert_eq!(
        (&fact.payload["detectedFrom"], &fact.payload["ssrc"]),
        (&json!("otomo"), &json!(listener.ssrc))
    );
}

#[tokio::test]
async fn a_new_transport_replaces_the_old_one_and_the_call_continues() {
    let fixture = Fixture::start(&[("stats_interval_ms", "100"), ("rtp_lost_after_ms", "1000")]).await;
    let parties = fixture.call().await;
    let user = requester(&parties, Role::User);
    let notices = fixture.notices(&parties.party(Role::Otomo)).await;
    let own_notices = fixture.notices(&parties.party(Role::User)).await;
    let first = fixture.join(&user).await;
    let peer = fixture.join(&requester(&parties, Role::Otomo)).await;
    first.talk().await;
    fixture.fact(&parties, "rtp_detected").await;
    peer.talk().await;
    fixture.fact(&parties, "media_started").await;
    assert_eq!(own_notices.count("rtc_transport_replaced"), 0, "it replaces nothing");
    first.send.cut().await.unwrap();

    let second = fixture.join(&user).await;
    let again = fixture
        .produce(&user, &first.transport_id, rtp_parameters(100, 7))
        .await;
    assert_eq!(code(again), RefusalCode::UnknownTransport, "the old transport is gone");
    let replaced = own_notices.expect("rtc_transport_replaced").await;
    let expected = json!({ "callId": parties.call_id, "transportId": first.transport_id });
    assert_eq!(replaced, expected, "the party's other window knows");
    assert_eq!(notices.count("rtc_transport_replaced"), 0, "not the peer");
    notices.expect("media_lost").await;
    second.talk().await;
    notices.expect("media_resumed").await;
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started", "rtp_lost", "rtp_resumed"]
    );
    assert_eq!(
        notices.count("rtc_new_producer"),
        2,
        "the peer must consume the new one"
    );
    assert_eq!(notices.count("call_connected"), 1);
}

#[tokio::test]
async fn facts_during_an_outage_of_nats_are_stored_afterwards_with_their_time() {
    let mut fixture = Fixture::start(&[]).await;
    let (one, two) = (fixture.call().await, fixture.call().await);
    let first = fixture.join(&requester(&one, Role::User)).await;
    let second = fixture.join(&requester(&two, Role::Otomo)).await;
    let notices = fixture.notices(&one.party(Role::User)).await;
    fixture.nats.kill().unwrap();

    first.talk().await;
    second.talk().await;
    metric_becomes(&fixture.worker, "callpulse_media_queued_facts", 2.0).await;
    let away_until = Utc::now();
    fixture.nats.restart().await.unwrap();

    for (parties, speaker) in [(&one, &first), (&two, &second)] {
        let fact = fixture.fact(parties, "rtp_detected").await;
        let sent_at = DateTime::<Utc>::from(speaker.send.first_datagram_sent_at().unwrap().wall);
        let connected_at = fact.time("connectedAt").unwrap();
        assert!(connected_at.timestamp_millis() >= sent_at.timestamp_millis() && connected_at < away_until);
        assert!(fact.server_time >= away_until);
    }
    notices.expect("call_connected").await;
    metric_becomes(&fixture.worker, "callpulse_media_queued_facts", 0.0).await;
}
