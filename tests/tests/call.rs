//! A call over real RTP, from its request to its record.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use std::time::Duration;

use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::{Fact, Facts, time};
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::token::Role;
use callpulse_tests::wait::eventually;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);
const INTERVAL_MS: i64 = 400;

fn two_edges() -> StackBuilder {
    StackBuilder::default()
        .edges(2)
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        .set("media-worker", "stats_interval_ms", 100)
        .set("media-worker", "rtp_lost_after_ms", 500)
        .set("media-worker", "rtp_timeout_ms", 1_500)
}

async fn facts_of(stack: &Stack) -> Facts {
    Facts::connect(&stack.nats.url()).await.unwrap()
}

fn names(facts: &[Fact]) -> Vec<&str> {
    facts.iter().map(|fact| fact.name.as_str()).collect()
}

fn millis(from: &str, to: &str) -> i64 {
    (time(to).unwrap() - time(from).unwrap()).num_milliseconds()
}

#[tokio::test]
async fn a_call_is_connected_by_its_first_packet_ticked_and_settled() {
    let stack = two_edges().start().await.unwrap();
    let facts = facts_of(&stack).await;
    let call = Conversation::accepted(Pair::across(&stack).unwrap()).await.unwrap();
    let mut user = Caller::join(&call.user).await.unwrap();
    let mut otomo = Caller::join(&call.otomo).await.unwrap();

    // ICE and DTLS are connected, but no RTP was sent: the call is not connected.
    assert_eq!(
        names(&facts.of_call(&call.call_id).await.unwrap()),
        ["requested", "accepted"]
    );

    otomo.start_talking().await.unwrap();
    let detected = facts.expect(&call.call_id, "rtp_detected", SOON).await.unwrap();
    let connected_at = detected.text("connectedAt").unwrap().to_owned();
    assert_eq!(detected.text("detectedFrom").unwrap(), "otomo");
    assert_eq!(detected.text("method").unwrap(), "sfu_rtp_detected");
    assert_eq!(detected.text("workerId").unwrap(), "media-worker-1");
    assert_eq!(detected.text("producerId").unwrap(), otomo.producer_id());
    assert_eq!(detected.payload["ssrc"], json!(otomo.ssrc()));
    for party in call.parties() {
        let notice = party.expect_notice("call_connected").await.unwrap();
        assert_eq!(
            *notice.payload(),
            json!({
                "callId": call.call_id, "userId": "user_001", "otomoId": "otomo_777",
                "connectedAt": connected_at, "method": "sfu_rtp_detected",
            })
        );
    }
    let sent = otomo.first_datagram_sent_at().unwrap().wall;
    let sent = chrono::DateTime::<chrono::Utc>::from(sent);
    let lag = (time(&connected_at).unwrap() - sent).num_milliseconds();
    assert!(
        (-1..1_000).contains(&lag),
        "connectedAt is {lag} ms after the packet left"
    );

    user.start_talking().await.unwrap();
    user.listen(&call.user).await.unwrap();
    otomo.listen(&call.otomo).await.unwrap();
    eventually("each hearing the other", SOON, async || {
        anyhow::ensure!(
            user.received() > 5 && otomo.received() > 5,
            "{} and {}",
            user.received(),
            otomo.received()
        );
        Ok(())
    })
    .await
    .unwrap();

    for minute in 1..=3 {
        for party in call.parties() {
            let tick = party.expect_notice("tick").await.unwrap();
            assert_eq!(tick.payload()["minute"], json!(minute));
            assert_eq!(
                millis(&connected_at, tick.payload()["at"].as_str().unwrap()),
                minute * INTERVAL_MS
            );
        }
    }

    call.user.request("call_hangup", call.id()).await.unwrap();
    let settled = facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    let stored = facts.of_call(&call.call_id).await.unwrap();
    let ended = stored.iter().find(|fact| fact.name == "ended").unwrap();
    assert_eq!(ended.text("reason").unwrap(), "hangup");
    assert_eq!(ended.text("by").unwrap(), "user");
    assert_eq!(ended.text("connectedAt").unwrap(), connected_at);
    let ticks = stored.iter().filter(|fact| fact.name == "tick").count();
    let duration = millis(&connected_at, ended.text("endedAt").unwrap());
    assert_eq!(i64::try_from(ticks).unwrap(), duration / INTERVAL_MS);
    assert_eq!(settled.payload["ticks"], json!(ticks));
    assert_eq!(settled.payload["billedMinutes"], json!(ticks));
    assert_eq!(settled.payload["durationMs"], json!(duration));
    for party in call.parties() {
        let notice = party.expect_notice("call_ended").await.unwrap();
        assert_eq!(
            *notice.payload(),
            json!({
                "callId": call.call_id, "endedAt": ended.text("endedAt").unwrap(), "reason": "hangup",
                "durationMs": duration, "billedMinutes": ticks,
            })
        );
    }

    // One trace from the request to the record, and an envelope that other teams can route by.
    let trace = |fact: &Fact| {
        fact.headers
            .get("traceparent")
            .unwrap()
            .as_str()
            .split('-')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let of_request = trace(&stored[0]);
    for fact in &stored {
        assert_eq!(trace(fact), of_request, "{}", fact.name);
        assert_eq!(fact.headers.get("ce-specversion").unwrap().as_str(), "1.0");
        assert_eq!(
            fact.headers.get("ce-type").unwrap().as_str(),
            format!("callpulse.call.{}", fact.name)
        );
    }

    // Both are free again.
    let next = call
        .user
        .request("call_request", json!({ "otomoId": "otomo_777" }))
        .await
        .unwrap();
    assert_ne!(next["callId"], json!(call.call_id));
}

#[tokio::test]
async fn two_simultaneous_producers_store_one_rtp_detected() {
    let stack = two_edges().start().await.unwrap();
    let facts = facts_of(&stack).await;
    for round in 0..5 {
        let (user, otomo) = (format!("user_{round}"), format!("otomo_{round}"));
        let pair = Pair::across(&stack).unwrap().named(&user, &otomo);
        let call = Conversation::accepted(pair).await.unwrap();
        let (user, otomo) = tokio::try_join!(Caller::join(&call.user), Caller::join(&call.otomo)).unwrap();
        tokio::try_join!(user.start_talking(), otomo.start_talking()).unwrap();
        for party in call.parties() {
            party.expect_notice("call_connected").await.unwrap();
        }
        call.otomo.request("call_hangup", call.id()).await.unwrap();
        facts.expect(&call.call_id, "settled", SOON).await.unwrap();
        let stored = facts.of_call(&call.call_id).await.unwrap();
        assert_eq!(names(&stored).iter().filter(|name| **name == "rtp_detected").count(), 1);
        for party in call.parties() {
            party.expect_notice("call_ended").await.unwrap();
            assert_eq!(party.received_of("call_connected").len(), 1, "notified once");
        }
    }
}

#[tokio::test]
async fn a_self_report_does_not_connect_a_call() {
    let stack = two_edges()
        .set("media-worker", "media_timeout_ms", 2_000)
        .start()
        .await
        .unwrap();
    let facts = facts_of(&stack).await;
    let call = Conversation::accepted(Pair::across(&stack).unwrap()).await.unwrap();
    let _silent = Caller::join(&call.user).await.unwrap();
    for claim in ["webrtc_connected", "call_connected"] {
        for party in call.parties() {
            assert_eq!(party.refused(claim, call.id()).await.unwrap(), "self_report_forbidden");
        }
    }
    let ended = facts.expect(&call.call_id, "ended", SOON).await.unwrap();
    assert_eq!(
        ended.text("reason").unwrap(),
        "media_timeout",
        "accepted, but no RTP came"
    );
    assert_eq!(ended.payload["connectedAt"], Value::Null);
    facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!(names(&stored), ["requested", "accepted", "ended", "settled"]);
    for party in call.parties() {
        let notice = party.expect_notice("call_ended").await.unwrap();
        assert_eq!(notice.payload()["billedMinutes"], json!(0));
        assert!(party.received_of("call_connected").is_empty());
    }
    let counted = stack.edges[0].metric("callpulse_ws_self_reports_total").await.unwrap();
    assert_eq!(counted, Some(2.0), "two claims were made here");
}

#[tokio::test]
async fn padding_does_not_connect_a_call() {
    let stack = two_edges()
        .set("media-worker", "media_timeout_ms", 2_000)
        .start()
        .await
        .unwrap();
    let facts = facts_of(&stack).await;
    let call = Conversation::accepted(Pair::across(&stack).unwrap()).await.unwrap();
    let user = Caller::join(&call.user).await.unwrap();
    user.send_padding_only(20).await.unwrap();
    eventually("padding on its way", SOON, async || {
        anyhow::ensure!(user.padding_sent() == 20);
        Ok(())
    })
    .await
    .unwrap();
    let ended = facts.expect(&call.call_id, "ended", SOON).await.unwrap();
    assert_eq!(ended.text("reason").unwrap(), "media_timeout");
    assert!(!names(&facts.of_call(&call.call_id).await.unwrap()).contains(&"rtp_detected"));
}

#[tokio::test]
async fn a_payload_after_padding_connects_a_call() {
    let stack = two_edges().start().await.unwrap();
    let facts = facts_of(&stack).await;
    let call = Conversation::accepted(Pair::across(&stack).unwrap()).await.unwrap();
    let user = Caller::join(&call.user).await.unwrap();
    user.send_padding_only(5).await.unwrap();
    user.start_talking().await.unwrap();
    let detected = facts.expect(&call.call_id, "rtp_detected", SOON).await.unwrap();
    let sent = chrono::DateTime::<chrono::Utc>::from(user.first_datagram_sent_at().unwrap().wall);
    let lag = (detected.time("connectedAt").unwrap() - sent).num_milliseconds();
    assert!(lag >= -1, "connected {lag} ms before the first packet with a payload");
}

#[tokio::test]
async fn a_call_continues_when_the_media_of_one_party_is_lost_and_resumes() {
    let stack = two_edges().start().await.unwrap();
    let facts = facts_of(&stack).await;
    let (call, user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    for _ in 0..2 {
        user.stop_talking().await.unwrap();
        for party in call.parties() {
            let lost = party.expect_notice("media_lost").await.unwrap();
            assert_eq!(*lost.payload(), json!({ "callId": call.call_id, "party": "user" }));
        }
        user.start_talking().await.unwrap();
        for party in call.parties() {
            let resumed = party.expect_notice("media_resumed").await.unwrap();
            assert_eq!(*resumed.payload(), json!({ "callId": call.call_id, "party": "user" }));
        }
    }
    let stored = facts.of_call(&call.call_id).await.unwrap();
    let media: Vec<&Fact> = stored
        .iter()
        .filter(|fact| fact.name.starts_with("rtp_") && fact.name != "rtp_detected")
        .collect();
    assert_eq!(
        media.iter().map(|fact| fact.name.as_str()).collect::<Vec<_>>(),
        ["rtp_lost", "rtp_resumed", "rtp_lost", "rtp_resumed"]
    );
    for lost in media.iter().filter(|fact| fact.name == "rtp_lost") {
        assert!(lost.payload["gapMs"].as_u64().unwrap() >= 500, "{}", lost.payload);
    }
    assert!(!names(&stored).contains(&"ended"));
}

#[tokio::test]
async fn a_call_without_media_of_both_parties_ends_at_its_last_packet() {
    let stack = two_edges().start().await.unwrap();
    let facts = facts_of(&stack).await;
    let (call, user, otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    call.user.expect_notice("tick").await.unwrap();
    let before = chrono::Utc::now();
    tokio::try_join!(user.cut(), otomo.cut()).unwrap();
    let after = chrono::Utc::now();
    let ended = facts.expect(&call.call_id, "ended", SOON).await.unwrap();
    assert_eq!(ended.text("reason").unwrap(), "rtp_timeout");
    // Packets come every 20 ms and are counted every 100 ms; a noisy machine counts late.
    let ended_at = ended.time("endedAt").unwrap();
    let slack = chrono::TimeDelta::milliseconds(400);
    assert!(
        ended_at > before - slack && ended_at < after + slack,
        "{before} {ended_at} {after}"
    );
    let settled = facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    assert_eq!(settled.text("endedAt").unwrap(), ended.text("endedAt").unwrap());
    for tick in facts
        .of_call(&call.call_id)
        .await
        .unwrap()
        .iter()
        .filter(|fact| fact.name == "tick")
    {
        assert!(settled.payload["overTicks"].as_u64().unwrap_or(0) > 0 || tick.time("at").unwrap() <= ended_at);
    }
    for party in call.parties() {
        assert_eq!(
            party.expect_notice("call_ended").await.unwrap().payload()["reason"],
            json!("rtp_timeout")
        );
    }
}

#[tokio::test]
async fn a_third_party_cannot_access_the_media_of_a_call() {
    let stack = two_edges().start().await.unwrap();
    let (call, user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    let third = Party::connect(stack.edge(0).unwrap(), Role::User, "user_666")
        .await
        .unwrap();
    third.expect_notice("welcome").await.unwrap();
    let parameters = json!({ "codecs": [], "encodings": [{ "ssrc": 1 }] });
    let produce = json!({
        "callId": call.call_id, "transportId": user.producer_id(), "kind": "audio", "rtpParameters": parameters,
    });
    assert_eq!(third.refused("rtc_produce", produce).await.unwrap(), "not_a_party");
    assert_eq!(third.refused("call_hangup", call.id()).await.unwrap(), "not_a_party");
    // A second producer of a party is refused, and the call continues.
    let again = Caller::join(&call.user).await;
    assert!(again.is_ok() || format!("{:#}", again.unwrap_err()).contains("already_producing"));
    call.user.request("call_hangup", call.id()).await.unwrap();
}

#[tokio::test]
async fn a_party_that_reconnects_receives_the_state_of_its_connected_call() {
    let stack = two_edges().start().await.unwrap();
    let facts = facts_of(&stack).await;
    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    let detected = facts.expect(&call.call_id, "rtp_detected", SOON).await.unwrap();
    call.user.expect_notice("tick").await.unwrap();
    drop(call.user);

    let back = Party::connect(stack.edge(1).unwrap(), Role::User, "user_001")
        .await
        .unwrap();
    let welcome = back.expect_notice("welcome").await.unwrap();
    let active = &welcome.payload()["activeCall"];
    assert_eq!(active["callId"], json!(call.call_id));
    assert_eq!(active["state"], json!("connected"));
    assert_eq!(
        active["connectedAt"], detected.payload["connectedAt"],
        "the original moment"
    );
    let minute = active["lastTick"]["minute"].as_i64().unwrap();
    assert!(minute >= 1);

    // The new socket receives the next tick and the end of the call.
    let tick = back.expect_notice("tick").await.unwrap();
    assert!(tick.payload()["minute"].as_i64().unwrap() > minute - 1);
    back.request("call_hangup", json!({ "callId": call.call_id }))
        .await
        .unwrap();
    let ended = back.expect_notice("call_ended").await.unwrap();
    assert_eq!(ended.payload()["reason"], json!("hangup"));
    let later = Party::connect(stack.edge(0).unwrap(), Role::User, "user_001")
        .await
        .unwrap();
    assert_eq!(
        later.expect_notice("welcome").await.unwrap().payload()["activeCall"],
        Value::Null
    );
}
