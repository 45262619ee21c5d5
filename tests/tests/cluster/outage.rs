//! All servers are down for some time, and the consumer is deleted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::wait::{eventually, stays};
use chrono::{DateTime, TimeDelta, Utc};
use contract::jetstream::storage::CALLS;

use crate::fixture::{SOON, cluster_permit, facts, hang_up, more_ticks, sends, settled_record, two_of_each};

/// Several intervals, in packets: 50 a second.
const LONG: u64 = 10 * 50;
const CONSUMER: &str = "billing-timer";
/// The storage timeout of an edge.
const STORAGE_TIMEOUT: Duration = Duration::from_millis(250);
/// Enough attempts to read a snapshot.
const MANY_ATTEMPTS: u32 = 30;

#[tokio::test]
async fn a_call_connected_while_all_servers_are_down_is_stored_with_its_time() -> Result<()> {
    let _permit = cluster_permit().await?;
    let mut stack = two_of_each().start().await?;
    let call = Conversation::accepted(Pair::across(&stack)?).await?;
    let user = Caller::join(&call.user).await?;
    stack.nats.kill()?;
    user.start_talking().await?;
    sends(&user, LONG).await?;
    stack.nats.restart().await?;

    let facts = facts(&stack).await?;
    let detected = facts.expect(&call.call_id, "rtp_detected", SOON).await?;
    let sent = user.first_datagram_sent_at().context("nothing was sent")?.wall;
    let lag = (detected.time("connectedAt")? - DateTime::<Utc>::from(sent)).num_milliseconds();
    ensure!(
        (-1..500).contains(&lag),
        "connectedAt is {lag} ms after the packet was sent"
    );
    // The ticks of the outage are stored late, and more follow.
    more_ticks(&stack, &call.call_id, 3).await?;
    stack.ready().await?;

    delete_consumer(&stack).await?;
    hang_up(&call).await?;
    let record = settled_record(&stack, &call).await?;
    ensure!(
        record.longest_delay()? > TimeDelta::seconds(9),
        "the outage was too short"
    );
    stack.ready().await?;
    stack.nats.synced().await
}

#[tokio::test]
async fn parties_receive_a_snapshot_after_any_time_without_a_quorum() -> Result<()> {
    let _permit = cluster_permit().await?;
    let mut stack = two_of_each()
        .timers(0)
        .edges(1)
        .set("ws-edge", "storage_timeout_ms", STORAGE_TIMEOUT.as_millis())
        .start()
        .await?;
    let call = Conversation::ringing(Pair::across(&stack)?).await?;
    stack.nats.kill()?;
    // One of three servers forwards messages, but has no quorum.
    stack.nats.restart_node(0).await?;
    let edge = stack.edges.first().context("no edge")?;
    eventually("the edge being connected again", SOON, async || {
        let (_, readiness) = edge.ops("/readyz").await?;
        let readiness: serde_json::Value = serde_json::from_str(&readiness)?;
        let up = readiness
            .pointer("/conditions/nats")
            .and_then(serde_json::Value::as_bool);
        ensure!(up == Some(true), "{readiness}");
        Ok(())
    })
    .await?;
    stays(
        "no party is sent a state that cannot be read",
        STORAGE_TIMEOUT * MANY_ATTEMPTS,
        async || {
            for party in call.parties() {
                ensure!(party.received_of("snapshot").is_empty());
            }
            Ok(())
        },
    )
    .await?;
    for node in 1..stack.nats.nodes() {
        stack.nats.restart_node(node).await?;
    }
    for party in call.parties() {
        let snapshot = party.expect_notice_within("snapshot", SOON).await?;
        let about = snapshot.payload().pointer("/activeCall/callId").cloned();
        ensure!(about == Some(call.call_id.as_str().into()), "{snapshot:?}");
    }
    Ok(())
}

/// Deletes the consumer, which the service must create again.
async fn delete_consumer(stack: &Stack) -> Result<()> {
    let calls = jetstream::new(async_nats::connect(stack.nats.url()).await?)
        .get_stream(CALLS)
        .await?;
    eventually("the consumer's deletion", SOON, async || {
        ensure!(calls.delete_consumer(CONSUMER).await?.success);
        Ok(())
    })
    .await?;
    eventually("the consumer being created again", SOON, async || {
        let info = calls.consumer_info(CONSUMER).await?;
        let copies = info.cluster.map(|cluster| cluster.replicas.len());
        ensure!(copies == Some(2), "{copies:?} replicas beside the leader");
        Ok(())
    })
    .await
}
