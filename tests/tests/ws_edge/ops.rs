//! The operations feed during real calls, failures and outages.

mod injector;

mod volume;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::clients::party::{Handshake, Party};
use callpulse_tests::clients::viewer::Viewer;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::stays_pending;
use contract::TraceParent;
use contract::jetstream::request;
use contract::wire::command::ReportCalls;
use contract::wire::subject;
use futures::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use crate::common::{edge, pair};

const SOON: Duration = Duration::from_secs(30);

fn billed() -> StackBuilder {
    StackBuilder::default()
        .edges(2)
        .set("billing-timer", "tick_interval_ms", 500)
        .set("media-worker", "stats_interval_ms", 200)
}

#[tokio::test]
async fn the_feed_follows_a_call_from_request_to_settlement_and_its_timeline_matches_the_facts() -> Result<()> {
    let stack = billed().start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let mut viewer = Viewer::connect(stack.edge(1)?).await?;
    viewer
        .until("the fleet", |viewer| {
            let (timers, leases) = (viewer.all("timer"), viewer.all("lease"));
            viewer.all("edge").len() == 2
                && viewer.all("worker").len() == 1
                && timers.len() == 1
                && leases.len() == 64
                && leases
                    .iter()
                    .all(|lease| lease["instanceId"] == timers[0]["instanceId"])
        })
        .await?;
    let conversation = Conversation::ringing(pair(&stack)).await?;
    let call = conversation.call_id.clone();
    viewer
        .until("ringing", |viewer| viewer.call(&call)["state"] == "ringing")
        .await?;
    drop(conversation);

    let (conversation, user, otomo) = {
        // Another pair connects a call.
        let pair = pair(&stack).named("user_002", "otomo_002");
        Conversation::talking(pair).await?
    };
    let call = conversation.call_id.clone();
    viewer
        .until("ticks and packets", |viewer| {
            let call = viewer.call(&call);
            let heard = |side: &str| call[side]["packets"].as_u64() > Some(0) && call[side]["lost"] == false;
            call["lastTick"]["minute"].as_u64() >= Some(2) && heard("user") && heard("otomo")
        })
        .await?;
    let seen = viewer.call(&call).clone();
    let detected = facts.expect(&call, "rtp_detected", SOON).await?;
    ensure!(
        seen["state"] == "connected" && seen["since"] == detected.payload["connectedAt"],
        "{seen}"
    );
    ensure!(
        seen["workerId"] == "media-worker-1" && seen["nodeId"] == "ws-edge-1",
        "{seen}"
    );
    ensure!(seen["userId"] == "user_002" && seen["otomoId"] == "otomo_002", "{seen}");
    let trace = detected.headers.get("traceparent").context("no trace")?.to_string();
    ensure!(seen["traceId"].as_str() == trace.split('-').nth(1), "{seen}");
    viewer
        .until("sockets", |viewer| {
            let sockets: u64 = viewer
                .all("edge")
                .iter()
                .filter_map(|edge| edge["sockets"].as_u64())
                .sum();
            let operators: u64 = viewer
                .all("edge")
                .iter()
                .filter_map(|edge| edge["operators"].as_u64())
                .sum();
            let calls = viewer.all("worker")[0]["calls"].as_u64();
            (sockets, operators, calls) == (2, 1, Some(1))
        })
        .await?;

    conversation.user.request("call_hangup", conversation.id()).await?;
    viewer
        .until("the bill", |viewer| viewer.call(&call)["state"] == "settled")
        .await?;
    let expected = ["ringing", "accepted", "connected", "ended", "settled"];
    let states = &viewer.states[&call];
    // A state may be skipped if the next follows before a poll.
    let mut steps = expected.iter();
    ensure!(states.iter().all(|state| steps.any(|step| step == state)), "{states:?}");
    ensure!(states.contains(&"connected".to_owned()), "{states:?}");
    let settled = facts.expect(&call, "settled", SOON).await?;
    let seen = viewer.call(&call);
    ensure!(
        seen["bill"]["billedMinutes"] == settled.payload["billedMinutes"],
        "{seen}"
    );
    ensure!(
        seen["end"]["reason"] == "hangup" && seen["end"]["by"] == "user",
        "{seen}"
    );

    let timeline = viewer.timeline(&call).await?;
    let stored = facts.of_call(&call).await?;
    let entries = timeline["entries"].as_array().context("no entries")?;
    ensure!(entries.len() == stored.len(), "{timeline}");
    for (entry, fact) in entries.iter().zip(&stored) {
        ensure!(
            entry["sequence"] == fact.sequence && entry["fact"] == fact.name.as_str(),
            "{entry}"
        );
        let source = fact.headers.get("ce-source").context("no source")?.as_str();
        ensure!(
            entry["source"] == source && entry["lagMs"].as_u64() < Some(5_000),
            "{entry}"
        );
        for (key, value) in entry["payload"].as_object().context("no payload")? {
            ensure!(fact.payload[key] == *value, "{key} of {entry}");
        }
    }
    let minutes = &timeline["minutes"];
    ensure!(
        minutes["intervalMs"] == 500 && minutes["due"] == minutes["stored"],
        "{minutes}"
    );
    ensure!(
        minutes["billed"] == settled.payload["billedMinutes"] && minutes["missing"] == json!([]),
        "{minutes}"
    );
    ensure!(viewer.timeline("unheard_of").await.is_err());
    drop((user, otomo));
    Ok(())
}

#[tokio::test]
async fn parties_cannot_use_the_feed_and_operators_cannot_call() -> Result<()> {
    let stack = edge().start().await?;
    let at = stack.edge(0)?;
    let handshake = |path: &str, token: String| Handshake {
        path: path.to_owned(),
        ..Handshake::bearer(token)
    };
    for role in [Role::User, Role::Otomo] {
        let status = Party::rejected(at, &handshake("/ops/live", token::valid(role, "user_001")?)).await?;
        ensure!(status == 403, "{role:?}: {status}");
    }
    let operator = token::operator("alice", SOON)?;
    ensure!(Party::rejected(at, &handshake("/ws", operator.clone())).await? == 403);
    ensure!(Party::rejected(at, &handshake("/ops/live?token=x", operator.clone())).await? == 400);
    let foreign = Handshake {
        origin: Some("https://evil.example".to_owned()),
        ..handshake("/ops/live", operator.clone())
    };
    ensure!(Party::rejected(at, &foreign).await? == 403);
    let missing = Handshake {
        path: "/ops/live".to_owned(),
        ..Handshake::default()
    };
    ensure!(Party::rejected(at, &missing).await? == 401);

    let viewer = Party::connect_with(at, "alice", &handshake("/ops/live", operator)).await?;
    viewer.expect_notice("welcome").await?;
    for (request, code) in [
        (("call_request", json!({ "otomoId": "otomo_777" })), "unknown_type"),
        (("timeline", json!({ "callId": "a.b" })), "invalid_id"),
        (("timeline", json!({})), "bad_message"),
        (("timeline", json!({ "callId": "nothing" })), "unknown_call"),
    ] {
        let refusal = viewer.request(request.0, request.1).await.unwrap_err();
        ensure!(format!("{refusal:#}").contains(code), "{refusal:#}");
    }
    for malformed in [
        json!({ "type": 5, "id": 7 }),
        json!({ "id": 7 }),
        json!({ "type": "timeline", "id": 7, "payload": ["nothing", 0] }),
    ] {
        viewer.send(malformed).await?;
        let error = viewer.expect_notice("error").await?;
        ensure!(
            error.message["id"] == 7 && error.payload()["code"] == "bad_message",
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_reports_its_calls_in_pages() -> Result<()> {
    let stack = StackBuilder::default().timers(0).start().await?;
    let client = async_nats::connect(stack.nats.url()).await?;
    let worker = "media-worker-1".parse()?;
    let mut calls = BTreeSet::new();
    let mut held = Vec::new();
    for number in 0..3 {
        let (user, otomo) = (format!("user_{number}"), format!("otomo_{number}"));
        let pair = Pair {
            user_edge: stack.edge(0)?,
            otomo_edge: stack.edge(0)?,
            user: &user,
            otomo: &otomo,
        };
        let conversation = Conversation::accepted(pair).await?;
        calls.insert(conversation.call_id.clone());
        held.push(conversation);
    }
    let mut reported = Vec::new();
    for (limit, count, more) in [(2, 2, true), (2, 1, false), (0, 0, false)] {
        let after = reported.last().cloned();
        let question = ReportCalls { limit, after };
        let page = request::ask(&client, &worker, &question, TraceParent::generate(), SOON).await?;
        ensure!((page.calls.len(), page.more) == (count, more), "{page:?}");
        ensure!(
            page.calls
                .iter()
                .all(|call| call.user.is_none() && call.otomo.is_none()),
            "{page:?}"
        );
        reported.extend(page.calls.into_iter().map(|call| call.call_id));
    }
    let reported: Vec<String> = reported.iter().map(ToString::to_string).collect();
    ensure!(reported.iter().eq(&calls), "{reported:?} of {calls:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_worker_is_removed_and_its_calls_end() -> Result<()> {
    let mut stack = StackBuilder::default().timers(0).start().await?;
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    let (conversation, _user, _otomo) = Conversation::talking(pair(&stack)).await?;
    let call = conversation.call_id.clone();
    viewer
        .until("connected", |viewer| viewer.call(&call)["state"] == "connected")
        .await?;
    viewer
        .until("the worker's report", |viewer| {
            viewer.all("worker").iter().all(|worker| worker["reports"] == true)
        })
        .await?;
    stack.workers[0].kill()?;
    viewer
        .until("no answer", |viewer| {
            viewer.all("worker").iter().all(|worker| worker["reports"] == false)
        })
        .await?;
    viewer
        .until("the worker's end", |viewer| viewer.all("worker").is_empty())
        .await?;
    viewer
        .until("the call's end", |viewer| viewer.call(&call)["state"] == "ended")
        .await?;
    ensure!(viewer.call(&call)["end"]["reason"] == "worker_lost");
    Ok(())
}

#[tokio::test]
async fn the_feed_reports_a_nats_outage_and_sends_a_snapshot_afterwards() -> Result<()> {
    let mut stack = StackBuilder::default().timers(0).start().await?;
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    let before = Conversation::accepted(pair(&stack)).await?;
    let call = before.call_id.clone();
    viewer
        .until("accepted", |viewer| viewer.call(&call)["state"] == "accepted")
        .await?;
    let snapshots = viewer.snapshots;
    stack.nats.kill()?;
    viewer.until("away", |viewer| viewer.away).await?;
    stack.nats.restart().await?;
    viewer
        .until("all of it", |viewer| !viewer.away && viewer.snapshots > snapshots)
        .await?;
    ensure!(viewer.call(&call)["state"] == "accepted", "{}", viewer.call(&call));
    let next = pair(&stack).named("user_002", "otomo_002");
    stack.ready().await?;
    let after = Conversation::ringing(next).await?;
    viewer
        .until("the next call", |viewer| {
            viewer.call(&after.call_id)["state"] == "ringing"
        })
        .await
}

#[tokio::test]
async fn without_viewers_no_reports_are_requested() -> Result<()> {
    let stack = edge().start().await?;
    let client = async_nats::connect(stack.nats.url()).await?;
    let mut questions = client.subscribe(subject::REPORT_EDGES).await?;
    client.flush().await?;
    let viewer = Viewer::connect(stack.edge(0)?).await?;
    timeout(SOON, questions.next())
        .await?
        .context("no request for reports")?;
    drop(viewer);
    let edge = &stack.edges[0];
    edge.metric_becomes("callpulse_ops_viewers", SOON, |viewers| viewers == 0.0)
        .await?;
    client.flush().await?;
    while timeout(Duration::ZERO, questions.next()).await.is_ok() {}
    // More than one round.
    stays_pending("no edge is asked", Duration::from_secs(5), questions.next()).await
}
