//! Signalling: from `call_request` to the end of a call, on real edges with a real worker and a real server.

use std::time::Duration;

use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::reader::{Facts, time};
use callpulse_tests::token::Role;
use callpulse_tests::wait::eventually;
use contract::jetstream::request;
use contract::jetstream::request::{CommandError, RefusalCode};
use contract::samples::rtp_lost;
use contract::wire::command::Terminate;
use contract::wire::fact::RtpResumed;
use contract::{EndReason, Timestamp, TraceParent};
use serde_json::{Value, json};

use crate::common::{assert_refused, connect, edges, ended, names, pair, ringing_and_accepted, welcomed};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_call_rings_is_accepted_and_hung_up_across_two_edges() {
    let stack = edges(2).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();

    assert_refused(&call.user, "rtc_capabilities", call.id(), "wrong_state").await;
    assert_refused(&call.user, "call_hangup", call.id(), "wrong_state").await;
    assert_refused(&call.user, "call_accept", call.id(), "role_forbidden").await;

    call.otomo.request("call_accept", call.id()).await.unwrap();
    let mut accepted_at = Vec::new();
    for party in call.parties() {
        let notice = party.expect_notice("call_accepted").await.unwrap();
        assert_eq!(notice.payload()["userId"], "user_001");
        assert_eq!(notice.payload()["otomoId"], "otomo_777");
        accepted_at.push(notice.payload()["acceptedAt"].clone());
    }
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!(stored[1].payload["acceptedAt"], accepted_at[0]);
    assert_eq!(stored[1].payload["workerId"], "media-worker-1");
    // One trace from the request on, and the envelope of CloudEvents.
    let trace = |index: usize| stored[index].headers.get("traceparent").unwrap().as_str()[3..35].to_owned();
    assert_eq!(trace(0), trace(1));
    assert_eq!(
        stored[0].headers.get("ce-source").unwrap().as_str(),
        "/ws-edge/ws-edge-1"
    );

    for party in call.parties() {
        // With the call named, and as the only one that the party is in.
        for payload in [call.id(), json!({})] {
            let answer = party.request("rtc_capabilities", payload).await.unwrap();
            assert!(answer["rtpCapabilities"]["codecs"].is_array(), "{answer}");
        }
        let transport = party
            .request("rtc_create_transport", json!({ "direction": "send" }))
            .await
            .unwrap();
        assert!(transport["iceCandidates"].is_array(), "{transport}");
        let fingerprint = json!({ "algorithm": "sha-256", "value": (["AB"; 32].join(":")) });
        for (dtls, code) in [
            (json!({}), "invalid_parameters"),
            (
                json!({ "role": "client", "fingerprints": [fingerprint] }),
                "unknown_transport",
            ),
        ] {
            let unknown = json!({ "transportId": "unknown", "dtlsParameters": dtls });
            assert_refused(party, "rtc_connect_transport", unknown, code).await;
        }
    }
    assert_refused(&call.otomo, "call_accept", call.id(), "wrong_state").await;
    assert_refused(&call.otomo, "call_reject", call.id(), "wrong_state").await;
    assert_refused(&call.user, "call_cancel", call.id(), "wrong_state").await;

    call.user.request("call_hangup", call.id()).await.unwrap();
    for party in call.parties() {
        ended(party, &call.call_id, "hangup").await;
    }
    assert_eq!(names(&facts, &call.call_id).await, ["requested", "accepted", "ended"]);
    assert_refused(&call.otomo, "call_hangup", call.id(), "wrong_state").await;
    assert_refused(&call.otomo, "rtc_capabilities", call.id(), "wrong_state").await;

    let again = call
        .user
        .request("call_request", json!({ "otomoId": "otomo_777" }))
        .await
        .unwrap();
    assert_ne!(again["callId"], call.call_id.as_str());
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn an_unanswered_call_ends_at_its_deadline() {
    let stack = edges(2).set("ws-edge", "ring_timeout_ms", 500).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    for party in call.parties() {
        ended(party, &call.call_id, "no_answer").await;
    }
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(
        stored[1].text("by").unwrap(),
        "ws-edge-1",
        "the node that took the request"
    );
    let late = stored[1].time("endedAt").unwrap() - stored[0].time("requestedAt").unwrap();
    assert!((500..2_000).contains(&late.num_milliseconds()), "{late}");
    assert_refused(&call.otomo, "call_accept", call.id(), "wrong_state").await;
}

#[tokio::test]
async fn only_the_otomo_rejects_and_only_the_user_cancels_a_ringing_call() {
    let mut stack = edges(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    assert_refused(&call.user, "call_reject", call.id(), "role_forbidden").await;
    assert_refused(&call.otomo, "call_cancel", call.id(), "role_forbidden").await;
    call.otomo.request("call_reject", call.id()).await.unwrap();
    for party in call.parties() {
        ended(party, &call.call_id, "rejected").await;
    }
    assert_eq!(names(&facts, &call.call_id).await, ["requested", "ended"]);

    let second = call
        .user
        .request("call_request", json!({ "otomoId": "otomo_777" }))
        .await
        .unwrap();
    let second = second["callId"].as_str().unwrap();
    stack.workers[0].terminate(SOON).await.unwrap();
    eventually("the edge missing the worker", SOON, async || {
        let accept = call.otomo.refused("call_accept", json!({ "callId": second }));
        let code = accept.await?;
        anyhow::ensure!(code == "no_worker", "{code}");
        Ok(())
    })
    .await
    .unwrap();
    call.user
        .request("call_cancel", json!({ "callId": second }))
        .await
        .unwrap();
    for party in call.parties() {
        ended(party, second, "cancelled").await;
    }
}

#[tokio::test]
async fn a_party_is_busy_until_its_call_ends() {
    let stack = edges(1).start().await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let other = connect(&stack, 0, Role::User, "user_002").await;
    let to_otomo = json!({ "otomoId": "otomo_777" });
    for (caller, otomo, side) in [(&other, "otomo_777", "otomo"), (&call.user, "otomo_888", "user")] {
        let code = caller
            .refused("call_request", json!({ "otomoId": otomo }))
            .await
            .unwrap();
        assert_eq!(code, "busy");
        assert_eq!(caller.received_of("error").last().unwrap().payload()["side"], side);
    }
    assert_refused(&call.otomo, "call_request", to_otomo.clone(), "role_forbidden").await;
    // The refused user has locked no otomo.
    other
        .request("call_request", json!({ "otomoId": "otomo_888" }))
        .await
        .unwrap();
    call.user.request("call_cancel", call.id()).await.unwrap();
    call.user.request("call_request", to_otomo).await.unwrap();
}

#[tokio::test]
async fn one_name_in_both_roles_cannot_call_itself_and_is_free_for_others() {
    let stack = edges(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let connect = async |role, name| connect(&stack, 0, role, name).await;
    let (user, otomo) = (connect(Role::User, "alice").await, connect(Role::Otomo, "alice").await);
    let to_alice = json!({ "otomoId": "alice" });
    assert_refused(&user, "call_request", to_alice.clone(), "bad_message").await;
    assert!(facts.all().await.unwrap().is_empty());
    assert!(otomo.received_of("incoming_call").is_empty());
    connect(Role::User, "bob")
        .await
        .request("call_request", to_alice)
        .await
        .unwrap();
    otomo.expect_notice("incoming_call").await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_key_is_answered_with_the_same_call_on_any_socket() {
    let stack = edges(2).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let connect = async |edge, role, name| connect(&stack, edge, role, name).await;
    let otomo = connect(0, Role::Otomo, "otomo_777").await;
    let (first, second) = (
        connect(0, Role::User, "user_001").await,
        connect(1, Role::User, "user_001").await,
    );
    let keyed = |otomo: &str| json!({ "otomoId": otomo, "requestKey": "key_1" });
    // At the same time, as after an interruption, and again later.
    let (one, two) = tokio::join!(
        first.request("call_request", keyed("otomo_777")),
        second.request("call_request", keyed("otomo_777")),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one["callId"], two["callId"]);
    let again = second.request("call_request", keyed("otomo_777")).await.unwrap();
    assert_eq!(again, one);
    let call_id = one["callId"].as_str().unwrap();
    assert_eq!(names(&facts, call_id).await, ["requested"]);
    let rings = otomo.expect_notice("incoming_call").await.unwrap();
    assert_eq!(rings.payload()["callId"], call_id);

    assert_refused(&second, "call_request", keyed("otomo_888"), "bad_message").await;
    let other = connect(1, Role::User, "user_002").await;
    // A key is its user's own.
    assert_refused(&other, "call_request", keyed("otomo_777"), "busy").await;
    second
        .request("call_cancel", json!({ "callId": call_id }))
        .await
        .unwrap();
    assert_refused(&second, "call_request", keyed("otomo_777"), "wrong_state").await;
    // How it ended can still be read.
    let over = second.received_of("error").last().unwrap().payload()["callId"].clone();
    let status = second.request("call_status", json!({ "callId": over })).await.unwrap();
    assert_eq!(status["notice"]["payload"]["reason"], "cancelled");
    let call_id = first
        .request("call_request", json!({ "otomoId": "otomo_777", "requestKey": "key_2" }))
        .await
        .unwrap()["callId"]
        .clone();
    assert_ne!(call_id, one["callId"]);
}

#[tokio::test]
async fn a_party_without_a_socket_at_the_end_of_a_call_reads_its_bill_on_any_node() {
    let mut stack = edges(2).start().await.unwrap();
    let (call, _user_media, _otomo_media) = Conversation::talking(pair(&stack)).await.unwrap();
    let notice = async |party: &Party| {
        let status = party
            .request("call_status", json!({ "callId": call.call_id }))
            .await
            .unwrap();
        assert_eq!(status["callId"], call.call_id.as_str());
        status["notice"].clone()
    };
    assert_eq!(notice(&call.user).await, Value::Null, "it is not over");
    call.otomo.request("call_hangup", call.id()).await.unwrap();
    assert_eq!(notice(&call.user).await, Value::Null, "it is not settled");

    stack.add("billing-timer").await.unwrap();
    let sent = call.otomo.expect_notice("call_ended").await.unwrap();
    call.user.expect_notice("call_ended").await.unwrap();
    // A socket that was opened after the notice, on either node.
    for edge in [0, 1] {
        let late = Party::connect(stack.edge(edge).unwrap(), Role::User, "user_001")
            .await
            .unwrap();
        let welcome = late.expect_notice("welcome").await.unwrap();
        assert_eq!(welcome.payload()["activeCall"], Value::Null);
        assert_eq!(notice(&late).await, sent.message);
        assert_eq!(late.received_of("call_ended").len(), 0);
    }
}

#[tokio::test]
async fn without_room_on_any_worker_a_call_does_not_ring() {
    let stack = edges(1).workers(0).start().await.unwrap();
    let otomo = connect(&stack, 0, Role::Otomo, "otomo_777").await;
    let user = connect(&stack, 0, Role::User, "user_001").await;
    let to_otomo = json!({ "otomoId": "otomo_777" });
    assert_refused(&user, "call_request", to_otomo, "no_capacity").await;
    // Answers are in order with notices.
    otomo.request("ping", json!({})).await.unwrap();
    assert_eq!(otomo.received_of("incoming_call").len(), 0);
}

#[tokio::test]
async fn a_call_to_an_otomo_without_a_socket_rings_or_is_refused() {
    for policy in ["ring", "refuse"] {
        let stack = edges(2).set("ws-edge", "offline_otomo", policy).start().await.unwrap();
        let connect = async |edge, role, name| connect(&stack, edge, role, name).await;
        let user = connect(0, Role::User, "user_001").await;
        // Another otomo says nothing about this one.
        let _other = connect(1, Role::Otomo, "otomo_888").await;
        let to_otomo = json!({ "otomoId": "otomo_777" });
        if policy == "ring" {
            let requested = user.request("call_request", to_otomo.clone()).await.unwrap();
            let of_call = json!({ "callId": requested["callId"] });
            user.request("call_cancel", of_call).await.unwrap();
        } else {
            let refused = user.refused("call_request", to_otomo.clone()).await.unwrap();
            assert_eq!(refused, "otomo_offline");
        }
        // On another node.
        let otomo = connect(1, Role::Otomo, "otomo_777").await;
        user.request("call_request", to_otomo).await.unwrap();
        otomo.expect_notice("incoming_call").await.unwrap();
        assert_eq!(otomo.received_of("presence").len(), 0, "a question is no notice");
    }
}

#[tokio::test]
async fn an_otomo_that_reconnects_meanwhile_is_called() {
    let stack = edges(1)
        .set("ws-edge", "offline_otomo", "refuse")
        .start()
        .await
        .unwrap();
    let edge = stack.edge(0).unwrap();
    let user = connect(&stack, 0, Role::User, "user_001").await;
    let calling = user.request("call_request", json!({ "otomoId": "otomo_777" }));
    let (called, otomo) = tokio::join!(calling, Party::connect(edge, Role::Otomo, "otomo_777"));
    called.unwrap();
    otomo.unwrap().expect_notice("incoming_call").await.unwrap();
}

#[tokio::test]
async fn a_ping_is_answered_at_once_and_welcome_says_how_often_to_send_one() {
    let stack = edges(1)
        .set("ws-edge", "limits.heartbeat_ms", 1_500)
        .start()
        .await
        .unwrap();
    let user = Party::connect(stack.edge(0).unwrap(), Role::User, "user_001")
        .await
        .unwrap();
    let welcome = user.expect_notice("welcome").await.unwrap();
    assert_eq!(welcome.payload()["heartbeatMs"], 1_500);
    for payload in [json!({}), json!({ "more": 1 })] {
        assert_eq!(user.request("ping", payload).await.unwrap(), json!({}));
    }
    // Before the answer to a request that takes a while.
    user.send(json!({ "type": "call_request", "id": "slow", "payload": { "otomoId": "otomo_777" } }))
        .await
        .unwrap();
    user.request("ping", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_party_that_reconnects_to_any_node_receives_the_state_of_its_call() {
    let stack = edges(2).start().await.unwrap();
    let (here, there) = (stack.edge(0).unwrap(), stack.edge(1).unwrap());
    assert_eq!(welcomed(here, Role::User, "user_001").await, Value::Null);
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    for edge in [here, there] {
        let snapshot = welcomed(edge, Role::Otomo, "otomo_777").await;
        assert_eq!(snapshot["callId"], call.call_id.as_str());
        assert_eq!(
            (&snapshot["state"], &snapshot["userId"]),
            (&json!("ringing"), &json!("user_001"))
        );
        let rings = time(snapshot["expiresAt"].as_str().unwrap()).unwrap()
            - time(snapshot["requestedAt"].as_str().unwrap()).unwrap();
        assert_eq!(rings.num_milliseconds(), 30_000);
        assert_eq!(
            (&snapshot["acceptedAt"], &snapshot["lastTick"]),
            (&Value::Null, &Value::Null)
        );
    }
    call.otomo.request("call_accept", call.id()).await.unwrap();
    let accepted = call.user.expect_notice("call_accepted").await.unwrap();
    for edge in [here, there] {
        let snapshot = welcomed(edge, Role::User, "user_001").await;
        assert_eq!(
            (&snapshot["state"], &snapshot["connectedAt"]),
            (&json!("accepted"), &Value::Null)
        );
        assert_eq!(snapshot["acceptedAt"], accepted.payload()["acceptedAt"]);
        assert_eq!(snapshot["expiresAt"], Value::Null);
    }
    // A user and an otomo with the same identifier are different parties.
    assert_eq!(welcomed(here, Role::Otomo, "user_001").await, Value::Null);
    call.otomo.request("call_hangup", call.id()).await.unwrap();
    assert_eq!(welcomed(there, Role::User, "user_001").await, Value::Null);
}

#[tokio::test]
async fn a_terminate_command_ends_a_call_in_any_state() {
    let stack = edges(2).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let command = |reason| Terminate {
        reason,
        by: "wallet:no-balance".to_owned(),
    };
    let (nobodys, terminated) = ("call_none".parse().unwrap(), command(EndReason::Terminated));
    match request::ask(facts.client(), &nobodys, &terminated, TraceParent::generate(), SOON).await {
        Err(CommandError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::UnknownCall),
        other => panic!("{other:?}"),
    }

    let [ringing, accepted] = ringing_and_accepted(pair(&stack)).await;
    for call in [&ringing, &accepted] {
        let id = call.call_id.parse().unwrap();
        let closed = request::ask(
            facts.client(),
            &id,
            &command(EndReason::Terminated),
            TraceParent::generate(),
            SOON,
        )
        .await
        .unwrap();
        assert_eq!(closed.connected_at, None);
        for party in call.parties() {
            ended(party, &call.call_id, "terminated").await;
        }
        let stored = facts.expect(&call.call_id, "ended", SOON).await.unwrap();
        assert_eq!(stored.text("by").unwrap(), "wallet:no-balance");
        // A repeated command is answered with the stored end.
        let again = request::ask(
            facts.client(),
            &id,
            &command(EndReason::MaxDuration),
            TraceParent::generate(),
            SOON,
        )
        .await
        .unwrap();
        assert_eq!(again, closed);
    }
}

/// More changes than fit into one reply of the server.
const CHANGES: u64 = 1_100;

#[tokio::test]
async fn a_snapshot_of_a_call_with_many_losses_shows_the_last_state() {
    let stack = edges(1).start().await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let client = ContractClient::open(&stack.nats).await.unwrap();
    let start = Timestamp::now();
    for change in 0..CHANGES {
        let lost = rtp_lost(&call.call_id, start.plus_millis(change * 10));
        let resumed = RtpResumed {
            parties: lost.parties.clone(),
            party: lost.party,
            at: start.plus_millis(change * 10 + 5),
            gap_ms: 5,
        };
        client.append(lost).await.unwrap();
        if change < CHANGES - 1 {
            client.append(resumed).await.unwrap();
        }
    }
    let shown = welcomed(stack.edge(0).unwrap(), Role::User, "user_001").await;
    assert_eq!(shown["lost"], json!([rtp_lost(&call.call_id, start).party]), "{shown}");
}
