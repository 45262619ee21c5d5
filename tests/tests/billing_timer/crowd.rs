//! Many calls under repeated crashes, each at another point of the work.

use anyhow::{Result, ensure};
use contract::Timestamp;

use crate::bench::{Bench, clock};

const CALLS: u64 = 60;
const CRASHES: u64 = 8;

#[tokio::test]
async fn crashes_at_any_point_lose_and_double_nothing() -> Result<()> {
    let mut bench = Bench::start(100).await?;
    let begun = Timestamp::now();
    let mut connected = Vec::new();
    for crash in 0..CRASHES {
        // New calls come while others run and end, so that a crash meets every kind of work.
        for number in 0..CALLS / CRASHES {
            let (call, connected_at) = (format!("c{crash}_{number}"), Timestamp::now());
            bench.connect(&call, connected_at).await?;
            connected.push((call, connected_at, 0));
        }
        clock(begun.plus_millis(crash * 400 + 37 * crash)).await?;
        for (call, connected_at, ended_after) in connected.iter_mut().filter(|(_, _, ended)| *ended == 0).step_by(3) {
            let ended_at = Timestamp::now();
            *ended_after = ended_at.millis_since(*connected_at).max(1);
            bench
                .end(call, connected_at.plus_millis(*ended_after), Some(*connected_at))
                .await?;
        }
        bench.timer().kill()?;
        bench.timer().restart().await?;
    }
    for (call, connected_at, ended_after) in connected.iter_mut().filter(|(_, _, ended)| *ended == 0) {
        *ended_after = Timestamp::now().millis_since(*connected_at).max(1);
        bench
            .end(call, connected_at.plus_millis(*ended_after), Some(*connected_at))
            .await?;
    }
    for (call, connected_at, duration) in &connected {
        let settled = bench.settled(call).await?;
        let stored = bench.check_ticks(call, *connected_at).await?;
        ensure!(
            settled["durationMs"] == *duration && settled["ticks"] == duration / 100,
            "{settled}"
        );
        ensure!(
            stored == duration / 100 + settled["overTicks"].as_u64().unwrap_or(0),
            "{stored} stored: {settled}"
        );
    }
    Ok(())
}
