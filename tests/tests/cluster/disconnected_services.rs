//! One process loses its connections to NATS, and all others keep theirs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::record::Record;
use callpulse_tests::wait::{eventually, stays};
use chrono::{TimeDelta, Utc};

use crate::fixture::{
    INTERVAL_MS, SOON, cluster_permit, facts, hang_up, more_ticks, process, publisher, ticked_by_another,
};
use crate::fixture::{not_ready, settled_record, two_of_each};

/// Media without packets for this long has stopped: packets are sent 50 times a second.
const SILENCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_billing_timer_that_is_cut_off_or_stalled_is_replaced_by_the_other() -> Result<()> {
    let _permit = cluster_permit().await?;
    let mut stack = two_of_each().proxied().workers(1).edges(1).start().await?;
    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack)?).await?;
    let ticks = more_ticks(&stack, &call.call_id, 2).await?;
    let first = publisher(ticks.last().context("no tick")?)?;

    stack.links(&first)?.cut();
    not_ready(process(&mut stack.timers, &first)?).await?;
    let second = ticked_by_another(&stack, &call.call_id, &first).await?;
    stack.links(&first)?.restore();
    process(&mut stack.timers, &first)?.ready().await?;

    // Both hold leases again, and the call's partition may have moved back. Stall its holder.
    let ticks = more_ticks(&stack, &call.call_id, 2).await?;
    let holder = publisher(ticks.last().context("no tick")?)?;
    ensure!([&first, &second].contains(&&holder));
    stack.links(&holder)?.stall();
    ticked_by_another(&stack, &call.call_id, &holder).await?;
    not_ready(process(&mut stack.timers, &holder)?).await?;
    stack.links(&holder)?.restore();
    process(&mut stack.timers, &holder)?.ready().await?;

    more_ticks(&stack, &call.call_id, 2).await?;
    hang_up(&call).await?;
    settled_record(&stack, &call).await?;
    Ok(())
}

#[tokio::test]
async fn a_disconnected_edge_and_a_disconnected_worker_recover() -> Result<()> {
    let _permit = cluster_permit().await?;
    let mut stack = two_of_each().proxied().timers(1).start().await?;
    let pair = Pair::across(&stack)?;
    let (call, _user, _otomo) = Conversation::talking(pair).await?;
    more_ticks(&stack, &call.call_id, 2).await?;

    // The user's edge: the call ends while it is disconnected.
    let edge = stack.edges.first().context("no edge")?.child().name().to_owned();
    stack.links(&edge)?.cut();
    not_ready(process(&mut stack.edges, &edge)?).await?;
    hang_up(&call).await?;
    facts(&stack).await?.expect(&call.call_id, "settled", SOON).await?;
    stack.links(&edge)?.restore();
    process(&mut stack.edges, &edge)?.ready().await?;
    let snapshot = call.user.expect_notice_within("snapshot", SOON).await?;
    ensure!(
        snapshot.payload().get("activeCall").is_some_and(|call| call.is_null()),
        "{snapshot:?}"
    );
    call.user.close().await?;
    call.otomo.close().await?;

    // The worker, until its entry expires: its call ends, which it reads after the reconnect.
    let (call, _user, otomo) = Conversation::talking(pair).await?;
    let accepted = facts(&stack).await?.expect(&call.call_id, "accepted", SOON).await?;
    let worker = accepted.text("workerId")?.to_owned();
    more_ticks(&stack, &call.call_id, 2).await?;
    let cut_at = Utc::now();
    stack.links(&worker)?.cut();
    not_ready(process(&mut stack.workers, &worker)?).await?;
    let record = settled_record(&stack, &call).await?;
    ensure!(
        record.ended.text("reason")? == "worker_lost",
        "{:?}",
        record.ended.payload
    );
    let ended_at = record.ended.time("endedAt")?;
    ensure!(
        (cut_at - TimeDelta::seconds(4)..=cut_at).contains(&ended_at),
        "cut off at {cut_at}, ended at {ended_at}"
    );
    receives(&otomo)
        .await
        .context("a disconnected worker keeps forwarding media")?;

    stack.links(&worker)?.restore();
    let worker = process(&mut stack.workers, &worker)?;
    worker.ready().await?;
    worker
        .metric_becomes("callpulse_media_calls", SOON, |calls| calls == 0.0)
        .await?;
    let received = otomo.received();
    stays("the call's media has stopped", SILENCE, async || {
        ensure!(otomo.received() == received);
        Ok(())
    })
    .await?;
    // Nothing more is stored.
    let again = Record::checked(&facts(&stack).await?, &call.call_id, INTERVAL_MS, SOON).await?;
    ensure!(again.ticks.len() == record.ticks.len());
    Ok(())
}

async fn receives(listener: &Caller) -> Result<()> {
    let before = listener.received();
    eventually("sound", SILENCE, async || {
        ensure!(listener.received() > before);
        Ok(())
    })
    .await
}
