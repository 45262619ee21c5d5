//! The server that leads the stream of facts dies, or stands still.

use anyhow::{Result, ensure};
use callpulse_tests::conversation::{Conversation, Pair};
use callpulse_tests::record::Record;
use chrono::TimeDelta;
use contract::jetstream::storage::CALLS;

use crate::scene::{INTERVAL_MS, SOON, facts, hang_up, more_ticks, spoken, turn, two_of_each, whole};

#[tokio::test]
async fn minutes_go_on_after_the_leader_was_killed_and_after_the_next_one_was_frozen() -> Result<()> {
    let _turn = turn().await?;
    let mut stack = two_of_each().start().await?;
    let (call, user, otomo) = Conversation::talking(Pair::across(&stack)?).await?;
    more_ticks(&stack, &call.call_id, 2).await?;

    let killed = stack.nats.stream_leader(CALLS).await?;
    stack.nats.kill_node(killed)?;
    more_ticks(&stack, &call.call_id, 3).await?;
    stack.nats.restart_node(killed).await?;
    stack.nats.settled().await?;

    let frozen = stack.nats.stream_leader(CALLS).await?;
    stack.nats.freeze_node(frozen)?;
    let heard = otomo.heard();
    more_ticks(&stack, &call.call_id, 3).await?;
    spoken(&user, 10).await?;
    ensure!(otomo.heard() > heard, "media needs no NATS");
    hang_up(&call).await?;
    let record = whole(&stack, &call).await?;
    // Elections take up to nine seconds, and may have to be held again; what is ours must not add much to that.
    ensure!(record.longest_delay()? < TimeDelta::seconds(20));

    // What the frozen one had in its hands is late and must not count any more.
    stack.nats.thaw_node(frozen)?;
    stack.nats.settled().await?;
    let again = Record::whole(&facts(&stack).await?, &call.call_id, INTERVAL_MS, SOON).await?;
    ensure!(again.ticks.len() == record.ticks.len());
    stack.ready().await
}
