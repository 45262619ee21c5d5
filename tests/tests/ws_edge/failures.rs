//! Failures of an edge, a worker, the server or the storage.

use std::time::{Duration, Instant};

use anyhow::Context;
use async_nats::jetstream;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::token::Role;
use callpulse_tests::wait::{eventually, let_time_pass, stays};
use contract::jetstream::storage::{CALLS, WORKER_TTL};
use serde_json::{Value, json};

use crate::common::{assert_refused, connect, edges, ended, names, pair, ringing_and_accepted, user, welcomed};

const SOON: Duration = Duration::from_secs(10);
/// A worker's entry expires after 6 s. The grace follows.
const WORKER_LOST_WITHIN: Duration = Duration::from_secs(25);
/// Of media-worker, with a second for a busy machine.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Several heartbeats.
const TALKED: Duration = Duration::from_secs(6);
/// The server pings its clients every 3 s and disconnects one that leaves two pings unanswered.
const DISCONNECTED_WITHIN: Duration = Duration::from_secs(25);
/// So many happen by chance once in 16,384 times.
const IN_A_ROW: usize = 14;

#[tokio::test]
async fn another_edge_ends_the_ringing_calls_of_a_killed_one() {
    let mut stack = edges(2).set("ws-edge", "ring_timeout_ms", 700).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    stack.edges[0].kill().unwrap();
    ended(&call.otomo, &call.call_id, "no_answer").await;
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!(stored[1].text("by").unwrap(), "ws-edge-2");
}

#[tokio::test]
async fn the_calls_of_a_killed_worker_end_at_its_last_heartbeat() {
    let mut stack = edges(2).workers(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let killed_at = chrono::Utc::now();
    stack.workers[0].kill().unwrap();
    assert_refused(&call.user, "rtc_capabilities", json!({}), "worker_unreachable").await;
    let stored = facts.expect(&call.call_id, "ended", WORKER_LOST_WITHIN).await.unwrap();
    assert_eq!(stored.text("reason").unwrap(), "worker_lost");
    assert!(stored.time("endedAt").unwrap() <= killed_at, "{stored:?}");
    for party in call.parties() {
        ended(party, &call.call_id, "worker_lost").await;
    }
    assert_eq!(names(&facts, &call.call_id).await, ["requested", "accepted", "ended"]);
    eventually("both parties being free", SOON, async || {
        anyhow::ensure!(welcomed(stack.edge(0)?, Role::User, "user_001").await == Value::Null);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_hangup_ends_the_call_of_a_killed_worker() {
    let mut stack = edges(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    stack.workers[0].kill().unwrap();
    call.otomo.request("call_hangup", call.id()).await.unwrap();
    for party in call.parties() {
        ended(party, &call.call_id, "hangup").await;
    }
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!((stored.len(), stored[2].text("by").unwrap()), (3, "otomo"));
}

/// What a hang-up after the death of the worker bills: the reason, and by how much the duration exceeds the worker's life.
async fn hung_up_after_the_worker(is_replaced: bool) -> (String, Duration) {
    let mut stack = edges(1).timers(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let (call, user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    stack.workers[0].kill().unwrap();
    let lived = user.first_datagram_sent_at().unwrap().at.elapsed();
    if is_replaced {
        stack.workers[0].restart().await.unwrap();
        stack.workers[0].ready().await.unwrap();
    } else {
        let_time_pass("nobody notices the death yet", WORKER_TTL / 2).await;
    }
    call.user.request("call_hangup", call.id()).await.unwrap();
    let settled = facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    let duration = Duration::from_millis(settled.payload["durationMs"].as_u64().unwrap());
    (
        settled.text("reason").unwrap().to_owned(),
        duration.saturating_sub(lived),
    )
}

#[tokio::test]
async fn a_hangup_after_the_death_of_the_worker_is_billed_to_its_last_heartbeat() {
    let (reason, beyond) = hung_up_after_the_worker(false).await;
    assert_eq!((reason.as_str(), beyond), ("hangup", Duration::ZERO));
}

#[tokio::test]
async fn a_hangup_of_a_call_whose_worker_was_replaced_is_billed_to_the_last_heartbeat_of_the_former() {
    let (reason, beyond) = hung_up_after_the_worker(true).await;
    assert_eq!((reason.as_str(), beyond), ("worker_lost", Duration::ZERO));
}

#[tokio::test]
async fn a_call_whose_worker_died_while_no_edge_ran_is_billed_to_its_last_heartbeat() {
    let mut stack = edges(1).timers(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let (call, user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    let_time_pass("the parties talk", TALKED).await;
    stack.edges[0].kill().unwrap();
    stack.workers[0].kill().unwrap();
    let lived = user.first_datagram_sent_at().unwrap().at.elapsed();
    let_time_pass("the worker's entry expires", WORKER_TTL + Duration::from_secs(2)).await;
    stack.edges[0].restart().await.unwrap();
    let settled = facts
        .expect(&call.call_id, "settled", WORKER_LOST_WITHIN)
        .await
        .unwrap();
    let duration = Duration::from_millis(settled.payload["durationMs"].as_u64().unwrap());
    assert_eq!(settled.text("reason").unwrap(), "worker_lost");
    assert!(
        duration <= lived && duration + HEARTBEAT_INTERVAL >= lived,
        "{duration:?} of {lived:?}"
    );
}

#[tokio::test]
async fn a_call_request_answered_with_unavailable_never_rings() {
    let stack = edges(1)
        .set("ws-edge", "storage_timeout_ms", 500)
        .start()
        .await
        .unwrap();
    let edge = stack.edge(0).unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let user = user(&stack, "user_001").await;
    let otomo = connect(&stack, 0, Role::Otomo, "otomo_777").await;
    // Without the stream, the edge locks the parties and cannot store the request.
    let jetstream = jetstream::new(facts.client().clone());
    let calls = jetstream.get_stream(CALLS).await.unwrap().cached_info().config.clone();
    jetstream.delete_stream(CALLS).await.unwrap();
    let to_otomo = json!({ "otomoId": "otomo_777" });
    assert_refused(&user, "call_request", to_otomo, "unavailable").await;
    let silent = async || {
        let again = Party::connect(edge, Role::Otomo, "otomo_777").await?;
        let welcome = again.expect_notice("welcome").await?;
        anyhow::ensure!(welcome.payload()["activeCall"] == Value::Null, "{welcome:?}");
        anyhow::ensure!(otomo.received_of("incoming_call").is_empty(), "it rings");
        Ok(())
    };
    eventually("the otomo being in no call", SOON, silent).await.unwrap();
    jetstream.create_stream(calls).await.unwrap();
    stays("the otomo is in no call", Duration::from_secs(2), silent)
        .await
        .unwrap();
    // The edge completes the publication, and ends the call.
    let stored = eventually("the end of the call", SOON, async || {
        let stored = facts.all().await?;
        anyhow::ensure!(stored.len() == 2, "{stored:?}");
        Ok(stored)
    })
    .await
    .unwrap();
    assert_eq!(
        (stored[0].name.as_str(), stored[1].name.as_str()),
        ("requested", "ended")
    );
    assert_eq!(stored[1].text("reason").unwrap(), "cancelled");
}

#[tokio::test]
async fn a_call_accept_that_no_worker_answers_in_time_leaves_the_call_ringing() {
    let stack = edges(1)
        .workers(2)
        .set("ws-edge", "storage_timeout_ms", 1_000)
        .set("ws-edge", "command_timeout_ms", 1_000)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    for worker in &stack.workers {
        worker.freeze().unwrap();
    }
    let asked_at = Instant::now();
    let code = call.otomo.refused("call_accept", call.id()).await.unwrap();
    assert_eq!(code, "unavailable");
    let took = asked_at.elapsed();
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    for worker in &stack.workers {
        worker.resume().unwrap();
    }
    stays("the call rings", Duration::from_secs(3), async || {
        let stored = names(&facts, &call.call_id).await;
        anyhow::ensure!(stored == ["requested"], "{stored:?}");
        Ok(())
    })
    .await
    .unwrap();
    call.otomo.request("call_accept", call.id()).await.unwrap();
    call.user.request("call_hangup", call.id()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_stops_closes_its_sockets_one_after_the_other() {
    let mut stack = edges(1)
        .set("ws-edge", "drain_timeout_ms", 30_000)
        .set("ws-edge", "limits.close_spread_ms", 8_000)
        .start()
        .await
        .unwrap();
    let mut parties = Vec::new();
    for number in 0..64 {
        parties.push(user(&stack, &format!("user_{number}")).await);
    }
    stack.edges[0].child_mut().send_sigterm().unwrap();
    let first = futures::future::select_all(parties.iter().map(|party| Box::pin(party.until_closed(SOON)))).await;
    assert!(first.0.unwrap().starts_with("close frame 1012"));
    // The others are served meanwhile.
    let open = parties.iter().rev().find(|party| party.closed().is_none()).unwrap();
    open.request("ping", json!({})).await.unwrap();
    for party in &parties {
        let closed = party.until_closed(SOON).await.unwrap();
        assert!(closed.starts_with("close frame 1012"), "{closed}");
    }
    let status = stack.edges[0].child_mut().until_ended(SOON).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn sockets_are_closed_for_a_restart_when_the_node_stops() {
    let mut stack = edges(2).start().await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let status = stack.edges[0].terminate(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    let closed = call.user.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 1012"), "{closed}");
    // The call goes on: the user may reconnect to another node.
    let snapshot = welcomed(stack.edge(1).unwrap(), Role::User, "user_001").await;
    assert_eq!(snapshot["callId"], call.call_id.as_str());
}

#[tokio::test]
async fn calls_outlive_an_outage_of_the_server_and_both_parties_get_a_snapshot() {
    let mut stack = edges(1).start().await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    stack.nats.kill().unwrap();
    eventually("requests being refused", SOON, async || {
        let code = call.user.refused("rtc_capabilities", json!({})).await?;
        anyhow::ensure!(code == "unavailable", "{code}");
        Ok(())
    })
    .await
    .unwrap();
    let_time_pass("the worker's entry expires", WORKER_TTL + Duration::from_secs(1)).await;
    stack.nats.restart().await.unwrap();
    for party in call.parties() {
        let snapshot = party
            .expect_notice_within("snapshot", WORKER_LOST_WITHIN)
            .await
            .unwrap();
        assert_eq!(snapshot.payload()["activeCall"]["state"], "accepted");
    }
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    // Longer than an edge waits before it ends the calls of a lost worker.
    stays("the call goes on", WORKER_TTL + Duration::from_secs(4), async || {
        let stored = names(&facts, &call.call_id).await;
        anyhow::ensure!(stored == ["requested", "accepted"], "{stored:?}");
        Ok(())
    })
    .await
    .unwrap();
    call.user.request("rtc_capabilities", json!({})).await.unwrap();
    call.user.request("call_hangup", call.id()).await.unwrap();
    ended(&call.otomo, &call.call_id, "hangup").await;
}

#[tokio::test]
async fn a_worker_restarted_under_its_name_has_lost_its_calls() {
    let mut stack = edges(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let killed_at = chrono::Utc::now();
    // Back long before its entry expires.
    stack.workers[0].restart().await.unwrap();
    let stored = facts.expect(&call.call_id, "ended", WORKER_LOST_WITHIN).await.unwrap();
    assert_eq!(stored.text("reason").unwrap(), "worker_lost");
    assert!(stored.time("endedAt").unwrap() <= killed_at, "{stored:?}");
}

#[tokio::test]
async fn ticks_stored_after_a_worker_was_replaced_do_not_count_as_its_heartbeat() {
    let mut stack = edges(1)
        .timers(1)
        .set("billing-timer", "tick_interval_ms", 300)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let (call, _user, _otomo) = Conversation::talking(pair(&stack)).await.unwrap();
    stack.edges[0].kill().unwrap();
    stack.workers[0].restart().await.unwrap();
    stack.workers[0].ready().await.unwrap();
    let replaced_at = chrono::Utc::now();
    let ticked_until = eventually("minutes of a call without a worker", SOON, async || {
        let stored = facts.of_call(&call.call_id).await?;
        let last = stored.last().filter(|fact| fact.name == "tick");
        let last = last.context("no tick")?.time("at")?;
        anyhow::ensure!(last > replaced_at, "the last at {last}");
        Ok(last)
    })
    .await
    .unwrap();
    // This edge has never seen the first worker.
    stack.edges[0].restart().await.unwrap();
    let stored = facts.expect(&call.call_id, "ended", WORKER_LOST_WITHIN).await.unwrap();
    assert_eq!(stored.text("reason").unwrap(), "worker_lost");
    let ended_at = stored.time("endedAt").unwrap();
    assert!(ended_at <= replaced_at && replaced_at < ticked_until, "{stored:?}");
    let settled = facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    assert!(settled.payload["overTicks"].as_u64() > Some(0), "{settled:?}");
}

#[tokio::test]
async fn a_frozen_edge_soon_receives_no_more_commands() {
    let stack = edges(2).workers(0).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    stack.edges[0].freeze().unwrap();
    // The server picks an edge at random: so many in a row are answered only if one edge is left.
    eventually("every command being answered", DISCONNECTED_WITHIN, async || {
        for _ in 0..IN_A_ROW {
            let command = facts.client().request("cmd.call.call_1.terminate", "{}".into());
            tokio::time::timeout(Duration::from_secs(1), command).await??;
        }
        Ok(())
    })
    .await
    .unwrap();
    stack.edges[0].resume().unwrap();
}

#[tokio::test]
async fn a_started_edge_ends_calls_of_lost_workers_but_not_ringing_calls() {
    let mut stack = edges(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let [ringing, accepted] = ringing_and_accepted(pair(&stack)).await;
    stack.edges[0].kill().unwrap();
    stack.workers[0].kill().unwrap();
    stack.edges[0].restart().await.unwrap();
    let lost = facts
        .expect(&accepted.call_id, "ended", WORKER_LOST_WITHIN)
        .await
        .unwrap();
    assert_eq!(lost.text("reason").unwrap(), "worker_lost");
    // The other call rings until its deadline.
    let snapshot = welcomed(stack.edge(0).unwrap(), Role::User, "user_r").await;
    assert_eq!(
        (&snapshot["callId"], &snapshot["state"]),
        (&json!(ringing.call_id), &json!("ringing"))
    );
}
