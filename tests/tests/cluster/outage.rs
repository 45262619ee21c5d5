//! All servers are away for a while, and what they kept for us is gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use callpulse_tests::caller::Caller;
use callpulse_tests::conversation::{Conversation, Pair};
use callpulse_tests::stack::Stack;
use callpulse_tests::wait::{eventually, stays};
use chrono::{DateTime, TimeDelta, Utc};
use contract::jetstream::storage::CALLS;

use crate::scene::{SOON, facts, hang_up, more_ticks, spoken, turn, two_of_each, whole};

/// "Minutes", in packets: 50 a second.
const LONG: u64 = 10 * 50;
const CONSUMER: &str = "billing-timer";
/// How long an edge waits for JetStream in one attempt to say where a party stands.
const STORAGE_TIMEOUT: Duration = Duration::from_millis(250);
/// More than somebody who is impatient would make.
const MANY_ATTEMPTS: u32 = 30;

#[tokio::test]
async fn a_call_that_connects_while_all_servers_are_dead_is_stored_as_it_was() -> Result<()> {
    let _turn = turn().await?;
    let mut stack = two_of_each().start().await?;
    let call = Conversation::accepted(Pair::across(&stack)?).await?;
    let user = Caller::join(&call.user).await?;
    stack.nats.kill()?;
    user.start_talking().await?;
    spoken(&user, LONG).await?;
    stack.nats.restart().await?;

    let facts = facts(&stack).await?;
    let detected = facts.expect(&call.call_id, "rtp_detected", SOON).await?;
    let sent = user.first_datagram_sent_at().context("nothing was sent")?.wall;
    let lag = (detected.time("connectedAt")? - DateTime::<Utc>::from(sent)).num_milliseconds();
    ensure!(
        (-1..500).contains(&lag),
        "connectedAt is {lag} ms after the packet left"
    );
    // The minutes of the outage are made up, and more follow.
    more_ticks(&stack, &call.call_id, 3).await?;
    stack.ready().await?;

    delete_consumer(&stack).await?;
    hang_up(&call).await?;
    let record = whole(&stack, &call).await?;
    ensure!(
        record.longest_delay()? > TimeDelta::seconds(9),
        "not the outage that was meant"
    );
    stack.ready().await?;
    stack.nats.settled().await
}

#[tokio::test]
async fn parties_are_told_where_they_stand_however_long_the_servers_cannot_agree() -> Result<()> {
    let _turn = turn().await?;
    let mut stack = two_of_each()
        .workers(0)
        .timers(0)
        .edges(1)
        .set("ws-edge", "storage_timeout_ms", STORAGE_TIMEOUT.as_millis())
        .start()
        .await?;
    let call = Conversation::ringing(Pair::across(&stack)?).await?;
    stack.nats.kill()?;
    // One of three can carry messages, and knows nothing for sure.
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

/// Somebody deletes what the facts are delivered by. The next one must be delivered all the same.
async fn delete_consumer(stack: &Stack) -> Result<()> {
    let calls = jetstream::new(async_nats::connect(stack.nats.url()).await?)
        .get_stream(CALLS)
        .await?;
    eventually("the consumer's deletion", SOON, async || {
        ensure!(calls.delete_consumer(CONSUMER).await?.success);
        Ok(())
    })
    .await?;
    eventually("the consumer being made again", SOON, async || {
        let info = calls.consumer_info(CONSUMER).await?;
        let copies = info.cluster.map(|cluster| cluster.replicas.len());
        ensure!(copies == Some(2), "{copies:?} copies beside the leader's");
        Ok(())
    })
    .await
}
