//! What holds when an edge, a worker or the server dies.

use std::time::Duration;

use anyhow::Context;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::token::Role;
use callpulse_tests::wait::{eventually, let_time_pass, stays};
use contract::jetstream::storage::WORKER_TTL;
use serde_json::{Value, json};

use crate::common::{edges, ended, names, pair, welcomed};

const SOON: Duration = Duration::from_secs(10);
/// A worker's entry expires after 6 s; then there is the grace.
const WORKER_LOST_WITHIN: Duration = Duration::from_secs(25);
/// The server pings its clients every 3 s and gives one up that left two pings unanswered.
const UNHEARD_WITHIN: Duration = Duration::from_secs(25);
/// By chance alone, once in 16,384 times.
const IN_A_ROW: usize = 14;

#[tokio::test]
async fn another_edge_ends_what_a_dead_one_left_ringing() {
    let mut stack = edges(2)
        .workers(0)
        .set("ws-edge", "ring_timeout_ms", 700)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    stack.edges[0].kill().unwrap();
    ended(&call.otomo, &call.call_id, "no_answer").await;
    let stored = facts.of_call(&call.call_id).await.unwrap();
    assert_eq!(stored[1].text("by").unwrap(), "ws-edge-2");
}

#[tokio::test]
async fn the_calls_of_a_killed_worker_end_at_its_last_sign_of_life() {
    let mut stack = edges(2).workers(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let call = Conversation::accepted(pair(&stack)).await.unwrap();
    let killed_at = chrono::Utc::now();
    stack.workers[0].kill().unwrap();
    assert_eq!(
        call.user.refused("rtc_capabilities", json!({})).await.unwrap(),
        "worker_unreachable"
    );
    let stored = facts.expect(&call.call_id, "ended", WORKER_LOST_WITHIN).await.unwrap();
    assert_eq!(stored.text("reason").unwrap(), "worker_lost");
    assert!(stored.time("endedAt").unwrap() <= killed_at, "{stored:?}");
    for party in call.parties() {
        ended(party, &call.call_id, "worker_lost").await;
    }
    assert_eq!(names(&facts, &call.call_id).await, ["requested", "accepted", "ended"]);
    eventually("both being free again", SOON, async || {
        anyhow::ensure!(welcomed(stack.edge(0)?, Role::User, "user_001").await == Value::Null);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_hangup_without_a_worker_ends_the_call_all_the_same() {
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

#[tokio::test]
async fn sockets_are_closed_for_a_restart_when_the_node_stops() {
    let mut stack = edges(2).workers(0).start().await.unwrap();
    let call = Conversation::ringing(pair(&stack)).await.unwrap();
    let status = stack.edges[0].terminate(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    let closed = call.user.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 1012"), "{closed}");
    // The call goes on: the user may come back elsewhere.
    let snapshot = welcomed(stack.edge(1).unwrap(), Role::User, "user_001").await;
    assert_eq!(snapshot["callId"], call.call_id.as_str());
}

#[tokio::test]
async fn calls_outlive_an_outage_of_the_server_and_parties_are_told_where_they_stand() {
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
async fn a_worker_started_anew_under_its_name_does_not_have_its_old_calls() {
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
async fn minutes_stored_after_a_worker_was_replaced_are_no_sign_of_its_life() {
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
    // This one has never seen the worker that is gone.
    stack.edges[0].restart().await.unwrap();
    let stored = facts.expect(&call.call_id, "ended", WORKER_LOST_WITHIN).await.unwrap();
    assert_eq!(stored.text("reason").unwrap(), "worker_lost");
    let ended_at = stored.time("endedAt").unwrap();
    assert!(ended_at <= replaced_at && replaced_at < ticked_until, "{stored:?}");
    let settled = facts.expect(&call.call_id, "settled", SOON).await.unwrap();
    assert!(settled.payload["overTicks"].as_u64() > Some(0), "{settled:?}");
}

#[tokio::test]
async fn a_frozen_edge_gets_no_share_of_the_commands_for_long() {
    let stack = edges(2).workers(0).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    stack.edges[0].freeze().unwrap();
    // Which of both gets a command is chance: so many in a row are answered only if there is one left.
    eventually("every command being answered", UNHEARD_WITHIN, async || {
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
async fn an_edge_that_starts_finds_what_was_left_behind() {
    let mut stack = edges(1).start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let ringing = Conversation::ringing(Pair {
        user: "user_r",
        otomo: "otomo_r",
        ..pair(&stack)
    })
    .await
    .unwrap();
    let accepted = Conversation::accepted(Pair {
        user: "user_a",
        otomo: "otomo_a",
        ..pair(&stack)
    })
    .await
    .unwrap();
    stack.edges[0].kill().unwrap();
    stack.workers[0].kill().unwrap();
    stack.edges[0].restart().await.unwrap();
    let lost = facts
        .expect(&accepted.call_id, "ended", WORKER_LOST_WITHIN)
        .await
        .unwrap();
    assert_eq!(lost.text("reason").unwrap(), "worker_lost");
    // The other one rings on until its deadline.
    let snapshot = welcomed(stack.edge(0).unwrap(), Role::User, "user_r").await;
    assert_eq!(
        (&snapshot["callId"], &snapshot["state"]),
        (&json!(ringing.call_id), &json!("ringing"))
    );
}
