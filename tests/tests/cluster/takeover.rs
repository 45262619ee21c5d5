//! Services die together with the server that leads the stream.

use anyhow::{Context, Result, ensure};
use callpulse_tests::conversation::{Conversation, Pair};
use contract::jetstream::storage::CALLS;

use crate::scene::SOON;
use crate::scene::{author, facts, hang_up, more_ticks, process, ticked_by_other_than, turn, two_of_each, whole};

#[tokio::test]
async fn a_worker_a_timer_and_the_leader_die_at_once_and_others_take_over() -> Result<()> {
    let _turn = turn().await?;
    // One call each, so that the other one is elsewhere.
    let mut stack = two_of_each().set("media-worker", "capacity", 1).start().await?;
    let (doomed, _a, _b) = Conversation::talking(Pair::across(&stack)?).await?;
    let other = Pair {
        user: "user_002",
        otomo: "otomo_778",
        ..Pair::across(&stack)?
    };
    let (kept, _c, _d) = Conversation::talking(other).await?;
    let worker = facts(&stack).await?.expect(&doomed.call_id, "accepted", SOON).await?;
    let worker = worker.text("workerId")?.to_owned();
    let ticks = more_ticks(&stack, &kept.call_id, 2).await?;
    let timer = author(ticks.last().context("no tick")?)?;
    let leader = stack.nats.stream_leader(CALLS).await?;

    process(&mut stack.workers, &worker)?.kill()?;
    process(&mut stack.timers, &timer)?.kill()?;
    stack.nats.kill_node(leader)?;

    ticked_by_other_than(&stack, &kept.call_id, &timer).await?;
    let record = whole(&stack, &doomed).await?;
    ensure!(
        record.ended.text("reason")? == "worker_lost",
        "{:?}",
        record.ended.payload
    );
    hang_up(&kept).await?;
    whole(&stack, &kept).await?;

    process(&mut stack.workers, &worker)?.restart().await?;
    process(&mut stack.timers, &timer)?.restart().await?;
    stack.nats.restart_node(leader).await?;
    stack.ready().await?;
    stack.nats.settled().await
}
