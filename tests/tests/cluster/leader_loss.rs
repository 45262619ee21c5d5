//! The leader of the stream of facts is killed or frozen.

use anyhow::{Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::record::Record;
use chrono::TimeDelta;
use contract::jetstream::storage::CALLS;

use crate::fixture::{
    INTERVAL_MS, SOON, cluster_permit, facts, hang_up, more_ticks, sends, settled_record, two_of_each,
};

#[tokio::test]
async fn ticks_continue_after_the_leader_is_killed_and_the_next_one_is_frozen() -> Result<()> {
    let _permit = cluster_permit().await?;
    let mut stack = two_of_each().start().await?;
    let (call, user, otomo) = Conversation::talking(Pair::across(&stack)?).await?;
    more_ticks(&stack, &call.call_id, 2).await?;

    let killed = stack.nats.stream_leader(CALLS).await?;
    stack.nats.kill_node(killed)?;
    more_ticks(&stack, &call.call_id, 3).await?;
    stack.nats.restart_node(killed).await?;
    stack.nats.synced().await?;

    let frozen = stack.nats.stream_leader(CALLS).await?;
    stack.nats.freeze_node(frozen)?;
    let received = otomo.received();
    more_ticks(&stack, &call.call_id, 3).await?;
    sends(&user, 10).await?;
    ensure!(otomo.received() > received, "media needs no NATS");
    hang_up(&call).await?;
    let record = settled_record(&stack, &call).await?;
    // Elections take up to nine seconds, and may be repeated. The services may not add much.
    ensure!(record.longest_delay()? < TimeDelta::seconds(20));

    // Publications that the frozen server held are late and must be rejected.
    stack.nats.resume_node(frozen)?;
    stack.nats.synced().await?;
    let again = Record::checked(&facts(&stack).await?, &call.call_id, INTERVAL_MS, SOON).await?;
    ensure!(again.ticks.len() == record.ticks.len());
    stack.ready().await
}
