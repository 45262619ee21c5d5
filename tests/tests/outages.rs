//! A connected call while a part of the system dies and comes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use std::process::Command;
use std::time::{Duration, Instant};

use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::clients::party::{Answer, Party};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::facts::record::Record;
use callpulse_tests::servers::child::open_descriptors;
use callpulse_tests::servers::process::Service;
use callpulse_tests::servers::small_disk::SmallDisk;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::skip::skipped_optionally;
use callpulse_tests::token::Role;
use callpulse_tests::wait::{eventually, let_time_pass};
use contract::jetstream::storage::{BILLING_ACTIVE, CALLS};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);
const INTERVAL_MS: i64 = 300;
const INTERVAL: Duration = Duration::from_millis(300);

async fn stack() -> Stack {
    let stack = StackBuilder::default().set("billing-timer", "tick_interval_ms", INTERVAL_MS);
    stack.start().await.unwrap()
}

async fn assert_minutes_are_whole(facts: &Facts, call_id: &str) {
    Record::checked(facts, call_id, INTERVAL_MS, SOON).await.unwrap();
}

async fn stored_ticks(facts: &Facts, call_id: &str, at_least: usize) {
    eventually(&format!("{at_least} ticks"), SOON, async || {
        let stored = facts.of_call(call_id).await?;
        let ticks = stored.iter().filter(|fact| fact.name == "tick").count();
        anyhow::ensure!(ticks >= at_least, "{ticks} so far");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn missed_ticks_are_stored_after_billing_timer_was_killed() {
    let mut stack = stack().await;
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    for round in 1..=3 {
        stored_ticks(&facts, &call.call_id, 2 * round).await;
        stack.timers[0].kill().unwrap();
        let_time_pass("three minutes fall due while no billing-timer runs", INTERVAL * 3).await;
        stack.timers[0].restart().await.unwrap();
        stack.timers[0].ready().await.unwrap();
    }
    // It is dead while the call ends, too.
    stack.timers[0].kill().unwrap();
    call.otomo.request("call_hangup", call.id()).await.unwrap();
    stack.timers[0].restart().await.unwrap();
    assert_minutes_are_whole(&facts, &call.call_id).await;
    for party in call.parties() {
        assert_eq!(
            party.expect_notice_within("call_ended", SOON).await.unwrap().payload()["reason"],
            json!("hangup")
        );
    }
}

#[tokio::test]
async fn a_call_outlives_a_killed_nats_server() {
    let mut stack = stack().await;
    let url = stack.nats.url();
    let (call, user, otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    stored_ticks(&Facts::connect(&url).await.unwrap(), &call.call_id, 2).await;
    for _ in 0..2 {
        stack.nats.kill().unwrap();
        let (user_heard, otomo_heard) = (user.received(), otomo.received());
        eventually("media flowing without NATS", SOON, async || {
            anyhow::ensure!(user.received() > user_heard + 20 && otomo.received() > otomo_heard + 20);
            Ok(())
        })
        .await
        .unwrap();
        stack.nats.restart().await.unwrap();
        stack.ready().await.unwrap();
    }
    let facts = Facts::connect(&url).await.unwrap();
    let hung_up = eventually("hanging up", SOON, async || {
        call.user.request("call_hangup", call.id()).await
    })
    .await;
    hung_up.unwrap();
    assert_minutes_are_whole(&facts, &call.call_id).await;
    for party in call.parties() {
        party.expect_notice_within("call_ended", SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_connected_while_nats_is_away_is_stored_on_its_return_with_its_original_time() {
    let mut stack = stack().await;
    let url = stack.nats.url();
    let call = Conversation::accepted(Pair::across(&stack).unwrap()).await.unwrap();
    let user = callpulse_tests::clients::caller::Caller::join(&call.user)
        .await
        .unwrap();
    stack.nats.kill().unwrap();
    user.start_talking().await.unwrap();
    eventually("a second of talk", SOON, async || {
        anyhow::ensure!(user.sent() > 50);
        Ok(())
    })
    .await
    .unwrap();
    stack.nats.restart().await.unwrap();
    let facts = Facts::connect(&url).await.unwrap();
    let detected = facts.expect(&call.call_id, "rtp_detected", SOON).await.unwrap();
    let sent = chrono::DateTime::<chrono::Utc>::from(user.first_datagram_sent_at().unwrap().wall);
    let lag = (detected.time("connectedAt").unwrap() - sent).num_milliseconds();
    assert!(
        (-1..500).contains(&lag),
        "connectedAt is {lag} ms after the packet left"
    );
    // By the notice, or, if the edge was not back yet when it went out, by the snapshot that follows a gap.
    for party in call.parties() {
        eventually("the notice or snapshot of the connection", SOON, async || {
            let connected_at = party.received().into_iter().find_map(|message| match message.kind() {
                "call_connected" => Some(message.payload()["connectedAt"].clone()),
                "snapshot" => Some(message.payload()["activeCall"]["connectedAt"].clone()).filter(|at| !at.is_null()),
                _ => None,
            });
            anyhow::ensure!(
                connected_at.as_ref() == Some(&detected.payload["connectedAt"]),
                "connected_at {connected_at:?}"
            );
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn only_the_calls_of_a_killed_worker_end_and_at_its_last_heartbeat() {
    let stack = StackBuilder::default().workers(2).edges(2);
    let stack =
        stack
            .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
            .set("media-worker", "heartbeat_interval_ms", 500);
    let mut stack = stack.start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let (first, _a, _b) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    // Placement is by chance: more calls, until both workers have one.
    let mut others = Vec::new();
    let host = |facts: Facts, call: String| async move {
        facts
            .expect(&call, "accepted", SOON)
            .await
            .unwrap()
            .text("workerId")
            .unwrap()
            .to_owned()
    };
    let killed_worker = host(facts.clone(), first.call_id.clone()).await;
    let survivor = loop {
        let number = others.len();
        assert!(number < 20, "twenty calls on one of two idle workers");
        let (user, otomo) = (format!("user_{number}"), format!("otomo_{number}"));
        let pair = Pair::across(&stack).unwrap().named(&user, &otomo);
        let (call, a, b) = Conversation::talking(pair).await.unwrap();
        let on = host(facts.clone(), call.call_id.clone()).await;
        let id = call.call_id.clone();
        others.push((call, a, b));
        if on != killed_worker {
            break id;
        }
    };
    let index = stack
        .workers
        .iter()
        .position(|worker| worker.setting("worker_id") == Some(&killed_worker))
        .unwrap();
    let killed_at = chrono::Utc::now();
    stack.workers[index].kill().unwrap();
    let ended = facts.expect(&first.call_id, "ended", SOON).await.unwrap();
    assert_eq!(ended.text("reason").unwrap(), "worker_lost");
    let ended_at = ended.time("endedAt").unwrap();
    let before = (killed_at - ended_at).num_milliseconds();
    assert!(
        (0..2_000).contains(&before),
        "its last heartbeat was {before} ms before its death"
    );
    assert_minutes_are_whole(&facts, &first.call_id).await;
    for party in first.parties() {
        let ended = party.expect_notice_within("call_ended", SOON).await.unwrap();
        assert_eq!(ended.payload()["reason"], json!("worker_lost"));
    }
    let stored = facts.of_call(&survivor).await.unwrap();
    assert!(
        !stored.iter().any(|fact| fact.name == "ended"),
        "the other worker's call goes on"
    );
}

/// A process has repeated notices after a reconnect, or has found that none may be repeated.
const REPEATED: &str = "notices that may have been lost";

async fn has_logged(process: &Service, line: &str) {
    eventually(line, SOON, async || {
        let log = process.child().log_tail();
        anyhow::ensure!(log.contains(line), "{log}");
        Ok(())
    })
    .await
    .unwrap();
}

/// A party of the stack, on an edge.
async fn party(stack: &Stack, role: Role, name: &str, edge: usize) -> Party {
    Party::connect(stack.edge(edge).unwrap(), role, name).await.unwrap()
}

#[tokio::test]
async fn a_cancelled_call_does_not_ring_after_its_edge_was_cut_off() {
    let stack = StackBuilder::default().workers(1).edges(2).timers(0).proxied();
    let stack = stack.start().await.unwrap();
    let otomo = party(&stack, Role::Otomo, "otomo_1", 1).await;
    let (user, elsewhere) = (
        party(&stack, Role::User, "user_1", 0).await,
        party(&stack, Role::User, "user_1", 1).await,
    );
    let requested = user
        .request("call_request", json!({ "otomoId": "otomo_1" }))
        .await
        .unwrap();
    let call = json!({ "callId": requested["callId"] });
    otomo.expect_notice_within("incoming_call", SOON).await.unwrap();
    elsewhere.request("call_cancel", call).await.unwrap();
    otomo.expect_notice_within("call_ended", SOON).await.unwrap();
    stack.links("ws-edge-1").unwrap().cut();
    has_logged(&stack.edges[0], "disconnected from NATS").await;
    stack.links("ws-edge-1").unwrap().restore();
    has_logged(&stack.edges[0], REPEATED).await;
    // A later notice of the same edge comes after all that it repeats.
    eventually("another call rings", SOON, async || {
        user.request("call_request", json!({ "otomoId": "otomo_1" })).await
    })
    .await
    .unwrap();
    otomo.expect_notice_within("incoming_call", SOON).await.unwrap();
    let rings = otomo
        .received()
        .into_iter()
        .filter(|message| message.kind() == "incoming_call");
    let rings: Vec<_> = rings.map(|message| message.payload()["callId"].clone()).collect();
    assert_eq!(
        rings.iter().filter(|call| **call == requested["callId"]).count(),
        1,
        "{rings:?}"
    );
}

#[tokio::test]
async fn an_ended_call_is_not_connected_again_after_its_worker_was_cut_off() {
    let stack = StackBuilder::default().proxied().start().await.unwrap();
    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    stack.links("media-worker-1").unwrap().cut();
    eventually("hanging up without the worker", SOON, async || {
        call.user.request("call_hangup", call.id()).await
    })
    .await
    .unwrap();
    for party in call.parties() {
        party.expect_notice_within("call_ended", SOON).await.unwrap();
    }
    stack.links("media-worker-1").unwrap().restore();
    has_logged(&stack.workers[0], REPEATED).await;
    for party in call.parties() {
        // An answer of the edge comes after all notices before it.
        party.request("ping", json!({})).await.unwrap();
        let kinds = party.received().into_iter().map(|message| message.kind().to_owned());
        let kinds: Vec<_> = kinds.collect();
        let ended = kinds.iter().position(|kind| kind == "call_ended").unwrap();
        assert!(!kinds[ended..].contains(&"call_connected".to_owned()), "{kinds:?}");
    }
}

#[tokio::test]
async fn calls_go_on_with_an_empty_store() {
    let mut stack = stack().await;
    let (_lost, _a, _b) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    stack.nats.kill().unwrap();
    stack.nats.erase().unwrap();
    stack.nats.restart().await.unwrap();
    stack.ready().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let pair = Pair::across(&stack).unwrap().named("user_002", "otomo_002");
    let call = eventually("a call", SOON * 2, async || Conversation::ringing(pair).await)
        .await
        .unwrap();
    call.accept().await.unwrap();
    let user = Caller::join(&call.user).await.unwrap();
    user.start_talking().await.unwrap();
    stored_ticks(&facts, &call.call_id, 2).await;
    call.user.request("call_hangup", call.id()).await.unwrap();
    assert_minutes_are_whole(&facts, &call.call_id).await;
    let cut_off = [&stack.workers[0], &stack.edges[0], &stack.timers[0]];
    for service in cut_off {
        has_logged(service, "the stream is a new one").await;
    }
}

#[tokio::test]
async fn readiness_follows_the_stored_streams() {
    let mut stack = stack().await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(stack.nats.url()).await.unwrap());
    let right = jetstream.get_stream(CALLS).await.unwrap().cached_info().config.clone();
    let mut wrong = right.clone();
    wrong.max_age *= 2;
    jetstream.update_stream(&wrong).await.unwrap();
    for service in [&stack.workers[0], &stack.edges[0], &stack.timers[0]] {
        eventually("streams: false", SOON, async || {
            let (_, page) = service.ops("/readyz").await?;
            anyhow::ensure!(page.contains(r#""streams":false"#), "{page}");
            Ok(())
        })
        .await
        .unwrap();
        has_logged(service, "max_age should be").await;
    }
    jetstream.update_stream(&right).await.unwrap();
    stack.ready().await.unwrap();
}

/// Refused because it could not be billed or stored. A call that is accepted is cancelled again.
async fn is_refused(user: &Party, otomo: &str) -> anyhow::Result<()> {
    match user.ask("call_request", json!({ "otomoId": otomo })).await? {
        Answer::Refusal { code, .. } if code == "no_capacity" => Ok(()),
        Answer::Response(call) => {
            user.request("call_cancel", json!({ "callId": call["callId"] })).await?;
            anyhow::bail!("accepted")
        }
        other => anyhow::bail!("{other:?}"),
    }
}

/// Edges that miss billing-timers soon, and admit the calls of a test that tries again and again.
fn with_short_billing_timeout() -> StackBuilder {
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        .set("ws-edge", "billing_timeout_ms", 3_000)
        .set("ws-edge", "limits.messages_per_second", 10_000);
    ["of_user", "to_otomo", "of_pair"].iter().fold(stack, |stack, limit| {
        stack.set("ws-edge", &format!("limits.calls_per_minute_{limit}"), 10_000)
    })
}

#[tokio::test]
async fn no_call_is_accepted_that_nothing_can_bill() {
    let mut stack = with_short_billing_timeout().start().await.unwrap();
    let user = party(&stack, Role::User, "user_1", 0).await;
    stack.timers[0].kill().unwrap();
    eventually("calls are refused", SOON, async || is_refused(&user, "otomo_1").await)
        .await
        .unwrap();
    stack.timers[0].restart().await.unwrap();
    eventually("calls are accepted again", SOON, async || {
        user.request("call_request", json!({ "otomoId": "otomo_1" })).await
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn no_call_is_accepted_while_its_minutes_cannot_be_stored() {
    let stack = with_short_billing_timeout().start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(facts.client().clone());
    let limit = async |max_bytes| {
        let stream = jetstream.get_stream(format!("KV_{BILLING_ACTIVE}")).await.unwrap();
        let mut config = stream.cached_info().config.clone();
        config.max_bytes = max_bytes;
        jetstream.update_stream(config).await.unwrap();
    };
    let call = Conversation::ringing(Pair::across(&stack).unwrap()).await.unwrap();
    let user = party(&stack, Role::User, "user_2", 0).await;
    limit(1).await;
    eventually("calls are refused", SOON, async || is_refused(&user, "otomo_2").await)
        .await
        .unwrap();
    let code = call.otomo.refused("call_accept", call.id()).await.unwrap();
    assert_eq!(code, "no_capacity");
    limit(-1).await;
    eventually("the ringing call is accepted", SOON, async || {
        call.otomo.request("call_accept", call.id()).await
    })
    .await
    .unwrap();
    user.request("call_request", json!({ "otomoId": "otomo_2" }))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_of_nats_loses_no_minute_and_no_call_is_accepted_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(&folder.path().join("nats")) {
        Ok(disk) => disk,
        Err(error) => return skipped_optionally(&format!("no mounts here: {error:#}")),
    };
    let mut stack = with_short_billing_timeout()
        .folder(folder.path())
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    let user = party(&stack, Role::User, "user_2", 0).await;
    stored_ticks(&facts, &call.call_id, 2).await;
    disk.fill().unwrap();
    eventually("calls are refused", SOON, async || is_refused(&user, "otomo_2").await)
        .await
        .unwrap();
    disk.free().unwrap();
    // nats-server answers no writes to a stream whose write has failed until it is restarted, see deploy/README.md.
    stack.nats.kill().unwrap();
    stack.nats.restart().await.unwrap();
    stack.ready().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    eventually("hanging up", SOON, async || {
        call.user.request("call_hangup", call.id()).await
    })
    .await
    .unwrap();
    assert_minutes_are_whole(&facts, &call.call_id).await;
    eventually("calls are accepted again", SOON, async || {
        user.request("call_request", json!({ "otomoId": "otomo_2" })).await
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_edge_without_free_descriptors_is_back_at_nats_at_once_while_connections_keep_arriving() {
    const FREE: usize = 60;
    let stack = StackBuilder::default().workers(0).timers(0);
    let mut stack = stack.start().await.unwrap();
    let (edge, address) = (&stack.edges[0], stack.edge(0).unwrap());
    let pid = edge.child().pid();
    let limit = open_descriptors(pid).unwrap() + FREE;
    let lowered = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:{limit}")])
        .status();
    assert!(lowered.unwrap().success());
    // Each is accepted as soon as there is a free descriptor, and held until the edge closes it.
    let mut crowd = JoinSet::new();
    for _ in 0..3 * FREE {
        crowd.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    let _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
                    let _ = stream.read(&mut [0; 1]).await;
                }
                let_time_pass("the edge closed it", Duration::from_millis(10)).await;
            }
        });
    }
    has_logged(edge, "accept failed").await;
    for _ in 0..2 {
        stack.nats.kill().unwrap();
        has_logged(&stack.edges[0], "disconnected from NATS").await;
        stack.nats.restart().await.unwrap();
        let back = Instant::now();
        stack.edges[0].ready().await.unwrap();
        assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    }
    let log = stack.edges[0].child().log_tail();
    assert!(log.matches("accept failed").count() < 10, "{log}");
    drop(crowd);
    let mut parties = 0..;
    eventually("parties connect again", SOON, async || {
        let name = format!("user_{}", parties.next().unwrap_or_default());
        Party::connect(address, Role::User, &name).await
    })
    .await
    .unwrap();
}
