//! Several timers share the calls: evenly, and whichever dies, stops, joins or was frozen, every minute is stored once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::kv::Operation;
use callpulse_tests::eventually::eventually;
use callpulse_tests::process::Service;
use callpulse_tests::stack::StackBuilder;
use contract::Timestamp;
use contract::buckets::leases::{Lease, Partition};
use contract::jetstream::storage;

use crate::bench::{Bench, SOON, clock};

/// What an operator is promised. A machine that does the same for three other tests may take longer to show it.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);
/// A minute that nobody remembered, or that waited for what NATS does by itself (it delivers again after 30 s), is later than
/// this. How late they were is printed: a machine that stands still for some seconds makes all of them late.
const NOT_FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);
/// Enough for every instance to have some.
const CALLS: usize = 30;

async fn fleet(timers: usize) -> Result<Bench> {
    Bench::with(200, StackBuilder::default().timers(timers)).await
}

/// How many partitions each instance has that is announced, as the bucket says.
async fn shares(bench: &Bench) -> Result<BTreeMap<String, usize>> {
    let bucket = bench.nats.jetstream.get_key_value(storage::BILLING_LEASES).await?;
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
        let lease: Lease = serde_json::from_slice(&lease.context("nobody has it")?)?;
        if let Some(share) = shares.get_mut(lease.instance_id.as_str()) {
            *share += 1;
        }
    }
    Ok(shares)
}

async fn settle(bench: &Bench, expected: &[usize]) -> Result<BTreeMap<String, usize>> {
    eventually(&format!("shares of {expected:?}"), SOON, async || {
        let shares = shares(bench).await?;
        let mut sizes: Vec<usize> = shares.values().copied().collect();
        sizes.sort_unstable();
        ensure!(sizes == expected, "{shares:?}");
        Ok(shares)
    })
    .await
}

async fn connect(bench: &Bench) -> Result<Vec<(String, Timestamp)>> {
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let (call, connected_at) = (format!("c{number}"), Timestamp::now());
        bench.connect(&call, connected_at).await?;
        calls.push((call, connected_at));
    }
    for (call, _) in &calls {
        bench.expect_tick(call, 2).await?;
    }
    Ok(calls)
}

/// No minute of any call is missing, doubled or early, and none was forgotten for a time. How late the latest was.
async fn check(bench: &Bench, calls: &[(String, Timestamp)]) -> Result<Duration> {
    let ended_at = Timestamp::now();
    for (call, connected_at) in calls {
        bench.end(call, ended_at, Some(*connected_at)).await?;
    }
    let mut latest = 0;
    for (call, connected_at) in calls {
        let full = ended_at.millis_since(*connected_at) / bench.interval_ms;
        let settled = bench.settled(call).await?;
        ensure!(settled["ticks"] == full, "{full} are full: {settled}");
        ensure!(
            bench.check_ticks(call, *connected_at).await? >= full,
            "a minute of {call} is missing"
        );
        for tick in bench.ticks(call).await? {
            let late = tick.taken_in_at.timestamp_millis() - tick.time("at")?.timestamp_millis();
            latest = latest.max(late);
        }
    }
    let latest = Duration::from_millis(u64::try_from(latest)?);
    ensure!(latest < NOT_FORGOTTEN_WITHIN, "{latest:?} late");
    Ok(latest)
}

/// Every call has a tick that was due after this moment.
async fn all_ticked(bench: &Bench, calls: &[(String, Timestamp)], since: Timestamp) -> Result<()> {
    for (call, connected_at) in calls {
        let minute = since.millis_since(*connected_at) / bench.interval_ms + 1;
        bench.expect_tick(call, minute).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_timers_calls_are_ticked_on_by_the_others() -> Result<()> {
    let mut bench = fleet(3).await?;
    settle(&bench, &[21, 21, 22]).await?;
    let calls = connect(&bench).await?;
    let killed_at = Instant::now();
    bench.stack.timers[0].kill()?;
    settle(&bench, &[32, 32]).await?;
    let taken_over = killed_at.elapsed();
    println!("all partitions taken over {taken_over:?} after the kill");
    ensure!(taken_over < TAKEN_OVER_WITHIN, "{taken_over:?}");
    all_ticked(&bench, &calls, Timestamp::now()).await?;
    println!("the latest minute was {:?} late", check(&bench, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn a_stopped_timers_calls_are_ticked_on_at_once() -> Result<()> {
    let mut bench = fleet(3).await?;
    settle(&bench, &[21, 21, 22]).await?;
    let calls = connect(&bench).await?;
    let stopped_at = Instant::now();
    let status = bench.stack.timers[1].terminate(SOON).await?;
    ensure!(status.success(), "{status}");
    settle(&bench, &[32, 32]).await?;
    let taken_over = stopped_at.elapsed();
    println!("all partitions taken over {taken_over:?} after SIGTERM");
    // Well below what an expiry takes.
    ensure!(taken_over < Duration::from_millis(2_000), "{taken_over:?}");
    all_ticked(&bench, &calls, Timestamp::now()).await?;
    println!("the latest minute was {:?} late", check(&bench, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn one_that_joins_gets_its_share_and_nothing_moves_after_that() -> Result<()> {
    let mut bench = fleet(2).await?;
    settle(&bench, &[32, 32]).await?;
    let calls = connect(&bench).await?;
    let first = &bench.stack.timers[0];
    let keys = [
        "nats.url",
        "nats.user",
        "nats_password",
        "ops.listen",
        "tick_interval_ms",
    ];
    let mut settings: callpulse_tests::process::Settings = keys
        .iter()
        .map(|key| ((*key).to_owned(), first.setting(key).unwrap_or_default().to_owned()))
        .collect();
    settings.insert("instance_id".to_owned(), "billing-timer-3".to_owned());
    let logs = bench.stack.folder().to_owned();
    let joined_at = Instant::now();
    let mut third = Service::start("billing-timer", "billing-timer-3", settings, &logs).await?;
    third.ready().await?;
    bench.stack.timers.push(third);
    settle(&bench, &[21, 21, 22]).await?;
    println!("shares are even {:?} after the start", joined_at.elapsed());
    all_ticked(&bench, &calls, Timestamp::now()).await?;
    let bucket = bench.nats.jetstream.get_key_value(storage::BILLING_LEASES).await?;
    let revisions = async || {
        let mut revisions = Vec::new();
        for partition in Partition::all() {
            let entry = bucket.entry(format!("partition.{}", partition.number())).await?;
            revisions.push(entry.context("nobody has it")?.revision);
        }
        anyhow::Ok(revisions)
    };
    let before = revisions().await?;
    clock(Timestamp::now().plus_millis(4_000)).await?;
    ensure!(revisions().await? == before, "a lease moved for nothing");
    println!("the latest minute was {:?} late", check(&bench, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn calls_that_begin_while_an_instance_stands_still_are_taken_in_by_the_other() -> Result<()> {
    let bench = fleet(2).await?;
    settle(&bench, &[32, 32]).await?;
    // The server goes on to hand it its share of the facts.
    bench.stack.timers[0].freeze()?;
    let calls = connect(&bench).await?;
    bench.stack.timers[0].thaw()?;
    println!("the latest minute was {:?} late", check(&bench, &calls).await?);
    Ok(())
}

#[tokio::test]
async fn two_that_both_take_a_call_for_theirs_store_each_minute_once() -> Result<()> {
    let bench = fleet(2).await?;
    settle(&bench, &[32, 32]).await?;
    let calls = connect(&bench).await?;
    for _ in 0..2 {
        // Frozen past its lease, it wakes up in the belief that its calls are its own.
        bench.stack.timers[0].freeze()?;
        settle(&bench, &[64]).await?;
        all_ticked(&bench, &calls, Timestamp::now()).await?;
        bench.stack.timers[0].thaw()?;
        settle(&bench, &[32, 32]).await?;
        all_ticked(&bench, &calls, Timestamp::now()).await?;
    }
    println!("the latest minute was {:?} late", check(&bench, &calls).await?);
    Ok(())
}
