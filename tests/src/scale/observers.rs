//! The other services and commands with as many active calls: how long each needs to start, to read all calls, and to recover
//! when the server restarts.
//!
//! A step that does not finish, or that misses a call, fails the run. The seconds are printed and not judged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::buckets::active_calls::ActiveCall;
use contract::jetstream::batch::{Entry, MAX_BATCH};
use contract::{NodeId, PublishCondition, Timestamp, TraceParent};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::load::{self, PlannedCall};
use crate::clients::party::Party;
use crate::clients::viewer::Viewer;
use crate::facts::contract_client::ContractClient;
use crate::servers::commands::{callctl, output};
use crate::servers::nats_server::Sync;
use crate::servers::stack::{Stack, StackBuilder};
use crate::token::Role;
use contract::samples::{accepted, parties, requested, rtp_detected};

/// The deadline of every step.
const STEP: Duration = Duration::from_secs(120);
/// Parties that are connected to the edge, at most.
const PARTIES: usize = 10_000;
/// Calls that end at once: more than a subscription holds.
const ENDED: usize = 20_000;
const RESYNCS: &str = "callpulse_ws_resyncs_total";
/// Handshakes in progress.
const HANDSHAKES: usize = 32;
/// Entries on their way to the bucket.
const PUTS: usize = 512;
/// Batches of facts in flight.
const BATCHES: usize = 4;

/// Plays the run. `progress` receives a line at each step.
pub async fn run(calls: usize, progress: &dyn Fn(&str)) -> Result<()> {
    let mut stack = StackBuilder::default().timers(0).sync(Sync::Lazy).start().await?;
    let client = ContractClient::open(&stack.nats).await?;
    let connected_at = Timestamp::now();
    let calls = load::plan(calls, 60_000, connected_at);
    store(&client, &calls).await?;
    progress(&format!("{} calls are stored", calls.len()));

    let step = |name: &str, began: Instant| progress(&format!("{name}: {:.1} s", began.elapsed().as_secs_f64()));
    for (name, service) in [
        ("ws-edge", stack.edges.first_mut()),
        ("media-worker", stack.workers.first_mut()),
    ] {
        let began = Instant::now();
        let service = service.context("no such service")?;
        service.restart().await?;
        service.ready().await?;
        step(&format!("{name} restarted and ready"), began);
    }

    let began = Instant::now();
    let listed = timeout(STEP, ops_snapshot(&stack)).await.context("/ops")??;
    step(&format!("/ops lists {listed} calls"), began);

    let began = Instant::now();
    let listed = timeout(STEP, list(&stack)).await.context("callctl list")??;
    ensure!(
        listed == calls.len(),
        "callctl list has {listed} of {} calls",
        calls.len()
    );
    step("callctl list", began);

    let began = Instant::now();
    let connected = timeout(STEP, connect(&stack, &calls)).await.context("parties")??;
    step(&format!("{} parties connected", connected.len()), began);

    let began = Instant::now();
    stack.nats.restart().await?;
    step("nats-server restarted", began);
    for party in &connected {
        party.expect_notice_within("snapshot", STEP).await?;
    }
    step("every party has a snapshot again", began);

    let (resyncs, began) = (resyncs(&stack).await?, Instant::now());
    let (ended, live) = calls.split_at(calls.len().min(ENDED));
    load::end(&client.facts, ended, Timestamp::now()).await?;
    loop {
        let listed = timeout(STEP, list(&stack)).await.context("callctl list")??;
        // An end may be published before it is stored, and its call looked up in between. A later check releases that call.
        if listed <= live.len() + ended.len() / 50 {
            break;
        }
        ensure!(began.elapsed() < STEP, "ended calls remain in active_calls");
    }
    step(
        &format!("{} ended calls are taken out of active_calls", ended.len()),
        began,
    );
    ensure!(
        self::resyncs(&stack).await? == resyncs,
        "the ends overflowed a subscription: every party was sent a snapshot"
    );
    Ok(())
}

/// How often the edge has sent every party a snapshot.
async fn resyncs(stack: &Stack) -> Result<f64> {
    let edge = stack.edges.first().context("no ws-edge")?;
    edge.metric(RESYNCS).await?.context("no counter of resynchronisations")
}

/// Stores the facts of connected calls, and their entries in `active_calls`.
async fn store(client: &ContractClient, calls: &[PlannedCall]) -> Result<()> {
    let batches = calls.chunks(MAX_BATCH / 3).map(Ok);
    stream::iter(batches)
        .try_for_each_concurrent(BATCHES, async |calls| {
            let entries: Vec<Entry> = calls.iter().flat_map(entries).collect();
            client.facts.publish_batch(&entries).await.map(drop)
        })
        .await?;
    let node: NodeId = "ws-edge-1".parse()?;
    let puts = calls.iter().flat_map(|call| keys(call, &node).map(Ok));
    stream::iter(puts)
        .try_for_each_concurrent(PUTS, async |(key, value)| {
            let subject = format!("{}{key}", client.storage.active_calls.prefix);
            let stored = client.nats.jetstream.publish(subject, value.to_string().into()).await?;
            stored.await?;
            anyhow::Ok(())
        })
        .await
}

fn entries(call: &PlannedCall) -> [Entry; 3] {
    let (id, at, trace) = (call.id.as_str(), call.connected_at, TraceParent::generate());
    let facts = [
        requested(id, at).into(),
        accepted(id, at).into(),
        rtp_detected(id, at).into(),
    ];
    let mut condition = PublishCondition::First;
    facts.map(|fact| Entry {
        fact,
        condition: std::mem::replace(&mut condition, PublishCondition::AfterPreviousEntry),
        trace,
    })
}

fn keys(call: &PlannedCall, node: &NodeId) -> [(String, Value); 3] {
    let (parties, at) = (parties(call.id.as_str()), call.connected_at);
    let entry = ActiveCall {
        node_id: node.clone(),
        requested_at: at,
        ring_deadline: at.plus(10 * STEP),
        // No edge asks a worker about a call that rings, and ends it because no worker has it.
        accepted: None,
        traceparent: TraceParent::generate(),
        parties: parties.clone(),
    };
    let lock = json!({ "callId": parties.call_id });
    [
        (format!("call.{}", parties.call_id), json!(entry)),
        (format!("user.{}", parties.user_id), lock.clone()),
        (format!("otomo.{}", parties.otomo_id), lock),
    ]
}

/// The number of calls in the first snapshot of the operations feed.
async fn ops_snapshot(stack: &Stack) -> Result<usize> {
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    viewer.until("a snapshot", |viewer| viewer.snapshots == 1).await?;
    Ok(viewer.all("call").len())
}

/// The number of calls that `callctl list` prints.
async fn list(stack: &Stack) -> Result<usize> {
    let output = output(callctl(&stack.nats, "observer", &["list", "--json"])?).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .count())
}

async fn connect(stack: &Stack, calls: &[PlannedCall]) -> Result<Vec<Party>> {
    let edge = stack.edge(0)?;
    let connecting = calls.iter().take(PARTIES).map(|call| async move {
        let parties = parties(call.id.as_str());
        let party = Party::connect(edge, Role::User, parties.user_id.as_str()).await?;
        party.expect_notice_within("welcome", STEP).await?;
        anyhow::Ok(party)
    });
    stream::iter(connecting)
        .buffer_unordered(HANDSHAKES)
        .try_collect()
        .await
}
