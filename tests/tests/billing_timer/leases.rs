//! Several timers share the calls evenly. Every minute is stored once when a timer dies, stops, joins or is frozen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::kv::{self, Operation};
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::wait::eventually;
use contract::Timestamp;
use contract::buckets::billing_leases::{Lease, Partition};
use contract::jetstream::storage;

use crate::fixture::{Fixture, SOON, wall_clock_reaches};

/// The documented limit. On a machine that runs other tests in parallel it may take longer to observe.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);
/// A tick later than this was forgotten, or waited for a redelivery by NATS (after 30 s). The actual lateness is printed: a busy
/// machine can delay all ticks by some seconds.
const NOT_FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);
/// Enough calls for every instance to hold some.
const CALLS: usize = 30;

async fn fleet(timers: usize) -> Result<Fixture> {
    Fixture::with(200, StackBuilder::default().timers(timers)).await
}

/// The bucket of the leases.
async fn leases(fixture: &Fixture) -> Result<kv::Store> {
    let bucket = fixture.contract.nats.jetstream.get_key_value(storage::BILLING_LEASES);
    Ok(bucket.await?)
}

/// The number of partitions of each announced instance, read from the bucket.
async fn shares(fixture: &Fixture) -> Result<BTreeMap<String, usize>> {
    let bucket = leases(fixture).await?;
    let mut shares = BTreeMap::new();
    for number in 1..=9 {
        let name = format!("billing-timer-{number}");
        let entry = bucket.entry(format!("instance.{name}")).await?;
        if entry.is_some_and(|entry| entry.operation == Operation::Put && !entry.value.is_empty()) {
            shares.insert(name, 0);
        }
    }
    for partition in Partition::all() {
        let lease = bucket.get(format!("partition.{}", partition.number())).await?;
        let lease: Lease = serde_json::from_slice(&lease.context("no holder")?)?;
        if let Some(share) = shares.get_mut(lease.instance_id.as_str()) {
            *share += 1;
        }
    }
    Ok(shares)
}

async fn await_shares(fixture: &Fixture, expected: &[usize]) -> Result<BTreeMap<String, usize>> {
    eventually(&format!("shares of {expected:?}"), SOON, async || {
        let shares = shares(fixture).await?;
        let mut sizes: Vec<usize> = shares.values().copied().collect();
        sizes.sort_unstable();
        ensure!(sizes == expected, "{shares:?}");
        Ok(shares)
    })
    .await
}

async fn connect(fixture: &Fixture) -> Result<Vec<(String, Timestamp)>> {
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let (call, connected_at) = (format!("c{number}"), Timestamp::now());
        fixture.connect(&call, connected_at).await?;
        calls.push((call, connected_at));
    }
    for (call, _) in &calls {
        fixture.expect_tick(call, 2).await?;
    }
    Ok(calls)
}

/// Checks that no minute of any call is missing, doubled, early or forgotten. Returns the greatest lateness.
async fn check(fixture: &Fixture, calls: &[(String, Timestamp)]) -> Result<Duration> {
    let ended_at = Timestamp::now();
    for (call, connected_at) in calls {
        fixture.end(call, ended_at, Some(*connected_at)).await?;
    }
    let mut latest = 0;
    for (call, connected_at) in calls {
        let full = ended_at.millis_since(*connected_at) / fixture.interval_ms;
        let settled = fixture.settled(call).await?;
        ensure!(settled["ticks"] == full, "{full} are full: {settled}");
        ensure!(
            fixture.check_ticks(call, *connected_at).await? >= full,
            "a minute of {call} is missing"
        );
        for tick in fixture.ticks(call).await? {
            let late = tick.server_time.timestamp_millis() - tick.time("at")?.timestamp_millis();
            latest = latest.max(late);
        }
    }
    let latest = Duration::from_millis(u64::try_from(latest)?);
    ensure!(latest < NOT_FORGOTTEN_WITHIN, "{latest:?} late");
    Ok(latest)
}

/// Waits until every call has a tick that was due after `since`.
async fn all_ticked(fixture: &Fixture, calls: &[(String, Timestamp)], since: Timestamp) -> Result<()> {
    for (call, connected_at) in calls {
        let minute = since.millis_since(*connected_at) / fixture.interval_ms + 1;
        fixture.expect_tick(call, minute).await?;
    }
    Ok(())
}

#[tokio::test]
async fn calls_of_a_killed_timer_are_ticked_by_the_others() -> Result<()> {
    let mut fixture = fleet(3).await?;
    await_shares(&fixture, &[21, 21, 22]).await?;
    let calls = connect(&fixture).await?;
    let killed_at = Instant::now();
    fixture.stack.timers[0].kill()?;
    await_shares(&fixture, &[32, 32]).await?;
    let taken_over = killed_at.elapsed();
    println!("all partitions taken over {taken_over:?} after the kill");
    ensure!(taken_over < TAKEN_OVER_WITHIN, "{taken_over:?}");
    all_ticked(&fixture, &calls, Timestamp::now()).await?;
    println!("the latest minute was {:?} late", check(&fixture, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn calls_of_a_stopped_timer_are_ticked_by_the_others_at_once() -> Result<()> {
    let mut fixture = fleet(3).await?;
    await_shares(&fixture, &[21, 21, 22]).await?;
    let calls = connect(&fixture).await?;
    let stopped_at = Instant::now();
    let status = fixture.stack.timers[1].terminate(SOON).await?;
    ensure!(status.success(), "{status}");
    await_shares(&fixture, &[32, 32]).await?;
    let taken_over = stopped_at.elapsed();
    println!("all partitions taken over {taken_over:?} after SIGTERM");
    // Well below the TTL of a lease.
    ensure!(taken_over < Duration::from_millis(2_000), "{taken_over:?}");
    all_ticked(&fixture, &calls, Timestamp::now()).await?;
    println!("the latest minute was {:?} late", check(&fixture, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn a_joining_timer_gets_its_share_and_then_no_lease_moves() -> Result<()> {
    let mut fixture = fleet(2).await?;
    await_shares(&fixture, &[32, 32]).await?;
    let calls = connect(&fixture).await?;
    let joined_at = Instant::now();
    fixture.stack.add("billing-timer").await?;
    await_shares(&fixture, &[21, 21, 22]).await?;
    println!("shares are even {:?} after the start", joined_at.elapsed());
    all_ticked(&fixture, &calls, Timestamp::now()).await?;
    let bucket = leases(&fixture).await?;
    let revisions = async || {
        let mut revisions = Vec::new();
        for partition in Partition::all() {
            let entry = bucket.entry(format!("partition.{}", partition.number())).await?;
            revisions.push(entry.context("no holder")?.revision);
        }
        anyhow::Ok(revisions)
    };
    let before = revisions().await?;
    wall_clock_reaches(Timestamp::now().plus_millis(4_000)).await?;
    ensure!(revisions().await? == before, "a lease moved without need");
    println!("the latest minute was {:?} late", check(&fixture, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn calls_that_begin_while_one_timer_is_frozen_are_handled_by_the_other() -> Result<()> {
    let fixture = fleet(2).await?;
    await_shares(&fixture, &[32, 32]).await?;
    // The server continues to deliver its share of the facts to the frozen instance.
    fixture.stack.timers[0].freeze()?;
    let calls = connect(&fixture).await?;
    fixture.stack.timers[0].resume()?;
    println!("the latest minute was {:?} late", check(&fixture, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn two_timers_that_both_tick_a_call_store_each_minute_once() -> Result<()> {
    let fixture = fleet(2).await?;
    await_shares(&fixture, &[32, 32]).await?;
    let calls = connect(&fixture).await?;
    for _ in 0..2 {
        // Frozen past its lease, it resumes and still assumes that it holds its partitions.
        fixture.stack.timers[0].freeze()?;
        await_shares(&fixture, &[64]).await?;
        all_ticked(&fixture, &calls, Timestamp::now()).await?;
        fixture.stack.timers[0].resume()?;
        await_shares(&fixture, &[32, 32]).await?;
        all_ticked(&fixture, &calls, Timestamp::now()).await?;
    }
    println!("the latest minute was {:?} late", check(&fixture, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn of_two_timers_with_one_instance_id_one_gives_way() -> Result<()> {
    let stack = StackBuilder::default()
        .timers(2)
        .set("billing-timer-2", "instance_id", "billing-timer-1");
    let mut fixture = Fixture::with(200, stack).await?;
    let (first, second) = fixture.stack.timers.split_at_mut(1);
    let (first, second) = (&mut first[0], &mut second[0]);
    let first_left = eventually("one of them ends", SOON, async || {
        match (first.child_mut().ended()?, second.child_mut().ended()?) {
            (Some(status), None) | (None, Some(status)) if status.success() => anyhow::bail!("ended with {status}"),
            (Some(_), None) => Ok(true),
            (None, Some(_)) => Ok(false),
            (left, right) => anyhow::bail!("{left:?} and {right:?}"),
        }
    })
    .await?;
    let (left, kept) = if first_left { (first, second) } else { (second, first) };
    let log = left.child().log_tail();
    ensure!(
        log.contains("instance_id billing-timer-1 is used by another billing-timer"),
        "{log}"
    );
    kept.ready().await?;
    let calls = connect(&fixture).await?;
    check(&fixture, &calls).await.map(drop)
}

#[tokio::test]
async fn leases_that_cannot_be_read_are_taken_over() -> Result<()> {
    let fixture = fleet(2).await?;
    await_shares(&fixture, &[32, 32]).await?;
    let bucket = leases(&fixture).await?;
    for (number, garbage) in ["not JSON", "[]", "null", r#"{"since":1}"#].into_iter().enumerate() {
        bucket.put(format!("partition.{number}"), garbage.into()).await?;
    }
    await_shares(&fixture, &[32, 32]).await?;
    let calls = connect(&fixture).await?;
    all_ticked(&fixture, &calls, Timestamp::now()).await
}
