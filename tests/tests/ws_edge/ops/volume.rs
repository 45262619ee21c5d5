//! Many calls, and a long one.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::viewer::Viewer;
use contract::Timestamp;
use contract::samples::tick;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::injector::{CALLS, INTERVAL_MS, Injector, STORES_AT_ONCE, call_id};
use crate::common::edge;

/// The default of `limits.message_bytes`.
const LONGEST_MESSAGE: usize = 64 * 1024;

#[tokio::test]
async fn five_thousand_calls_arrive_in_short_messages_and_a_slow_viewer_is_resynchronised() -> Result<()> {
    // A viewer that does not read must not be disconnected.
    let edge = edge().set("ws-edge", "limits.write_timeout_ms", 120_000);
    let stack = edge.start().await?;
    let injector = Injector::new(&stack).await?;
    let begun = Timestamp::now();
    let calls = (0..CALLS).map(|number| injector.call(number, begun));
    stream::iter(calls)
        .buffer_unordered(STORES_AT_ONCE)
        .try_collect::<()>()
        .await?;

    let asked = Instant::now();
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    viewer.until("a snapshot", |viewer| viewer.snapshots == 1).await?;
    println!(
        "a snapshot of {CALLS} calls: {:?}, longest message {} bytes",
        asked.elapsed(),
        viewer.longest
    );
    ensure!(viewer.all("call").len() == CALLS, "{}", viewer.all("call").len());
    let states: BTreeSet<_> = viewer
        .all("call")
        .iter()
        .map(|call| call["state"].to_string())
        .collect();
    ensure!(states == BTreeSet::from(["\"connected\"".to_owned()]), "{states:?}");

    let ticked = |viewer: &Viewer, minute: u32| {
        let calls = viewer.all("call");
        calls.iter().all(|call| call["lastTick"]["minute"] == minute)
    };
    let notified = viewer.until("everybody's tick", |viewer| ticked(viewer, 1));
    tokio::try_join!(injector.tick_all(1, begun), notified)?;
    ensure!(viewer.snapshots == 1, "a viewer that keeps up receives changes only");
    ensure!(viewer.longest < LONGEST_MESSAGE, "{} bytes", viewer.longest);

    // The viewer does not read: the kernel's buffers fill, then its queue.
    let mut minute = 1;
    let edge = &stack.edges[0];
    while edge.metric("callpulse_ops_viewers_behind_total").await? == Some(0.0) {
        minute += 1;
        ensure!(minute < 60, "the queue never fills");
        injector.tick_all(minute, begun).await?;
    }
    viewer.until("all of it", |viewer| viewer.snapshots == 2).await?;
    viewer.until("the last ticks", |viewer| ticked(viewer, minute)).await
}

#[tokio::test]
async fn a_long_timeline_is_read_in_pages() -> Result<()> {
    const MINUTES: u32 = 1_000;
    let stack = edge().start().await?;
    let injector = Injector::new(&stack).await?;
    let begun = Timestamp::now();
    injector.call(0, begun).await?;
    for minute in 1..=MINUTES {
        injector.store(tick(&call_id(0), minute, begun, INTERVAL_MS)).await?;
    }
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    let timeline = viewer.timeline("call_0000").await?;
    let entries = timeline["entries"].as_array().context("no entries")?;
    let minutes: Vec<u64> = entries
        .iter()
        .filter_map(|entry| entry["payload"]["minute"].as_u64())
        .collect();
    ensure!(minutes.iter().copied().eq(1..=u64::from(MINUTES)), "{minutes:?}");
    ensure!(entries.len() == minutes.len() + 3, "{}", entries.len());
    ensure!(viewer.longest < LONGEST_MESSAGE, "{} bytes", viewer.longest);
    Ok(())
}
