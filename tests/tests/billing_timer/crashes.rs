//! Many calls with repeated crashes at different points of the work.

use anyhow::{Result, ensure};
use contract::Timestamp;

use crate::fixture::{Fixture, wall_clock_reaches};

const CALLS: u64 = 60;
const CRASHES: u64 = 8;

#[tokio::test]
async fn crashes_at_any_point_lose_and_double_no_minute() -> Result<()> {
    let mut fixture = Fixture::start(100).await?;
    let begun = Timestamp::now();
    let mut connected = Vec::new();
    for crash in 0..CRASHES {
        // New calls start while others run and end, so that a crash interrupts every kind of work.
        for number in 0..CALLS / CRASHES {
            let (call, connected_at) = (format!("c{crash}_{number}"), Timestamp::now());
            fixture.connect(&call, connected_at).await?;
            connected.push((call, connected_at, 0));
        }
        wall_clock_reaches(begun.plus_millis(crash * 400 + 37 * crash)).await?;
        for (call, connected_at, ended_after) in connected.iter_mut().filter(|(_, _, ended)| *ended == 0).step_by(3) {
            let ended_at = Timestamp::now();
            *ended_after = ended_at.millis_since(*connected_at).max(1);
            fixture
                .end(call, connected_at.plus_millis(*ended_after), Some(*connected_at))
                .await?;
        }
        fixture.timer().kill()?;
        fixture.timer().restart().await?;
    }
    for (call, connected_at, ended_after) in connected.iter_mut().filter(|(_, _, ended)| *ended == 0) {
        *ended_after = Timestamp::now().millis_since(*connected_at).max(1);
        fixture
            .end(call, connected_at.plus_millis(*ended_after), Some(*connected_at))
            .await?;
    }
    for (call, connected_at, duration) in &connected {
        let settled = fixture.settled(call).await?;
        let stored = fixture.check_ticks(call, *connected_at).await?;
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
