//! Services die together with the leader of the stream.

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use contract::jetstream::storage::CALLS;

use crate::fixture::SOON;
use crate::fixture::{
    cluster_permit, facts, hang_up, more_ticks, process, publisher, settled_record, ticked_by_another, two_of_each,
};

#[tokio::test]
async fn others_take_over_after_a_worker_a_timer_and_the_leader_die_together() -> Result<()> {
    let _permit = cluster_permit().await?;
    // One call per worker, so that only one call is lost.
    let mut stack = two_of_each().set("media-worker", "capacity", 1).start().await?;
    let (lost, _a, _b) = Conversation::talking(Pair::across(&stack)?).await?;
    let other = Pair::across(&stack)?.named("user_002", "otomo_778");
    let (kept, _c, _d) = Conversation::talking(other).await?;
    let worker = facts(&stack).await?.expect(&lost.call_id, "accepted", SOON).await?;
    let worker = worker.text("workerId")?.to_owned();
    let ticks = more_ticks(&stack, &kept.call_id, 2).await?;
    let timer = publisher(ticks.last().context("no tick")?)?;
    let leader = stack.nats.stream_leader(CALLS).await?;

    process(&mut stack.workers, &worker)?.kill()?;
    process(&mut stack.timers, &timer)?.kill()?;
    stack.nats.kill_node(leader)?;

    ticked_by_another(&stack, &kept.call_id, &timer).await?;
    let record = settled_record(&stack, &lost).await?;
    ensure!(
        record.ended.text("reason")? == "worker_lost",
        "{:?}",
        record.ended.payload
    );
    hang_up(&kept).await?;
    settled_record(&stack, &kept).await?;

    process(&mut stack.workers, &worker)?.restart().await?;
    process(&mut stack.timers, &timer)?.restart().await?;
    stack.nats.restart_node(leader).await?;
    stack.ready().await?;
    stack.nats.synced().await
}
