//! One process alone loses its way to NATS, while all others keep theirs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::caller::Caller;
use callpulse_tests::conversation::{Conversation, Pair};
use callpulse_tests::process::Service;
use callpulse_tests::record::Record;
use callpulse_tests::wait::{eventually, stays};
use chrono::{TimeDelta, Utc};

use crate::scene::{INTERVAL_MS, SOON, author, facts, hang_up, more_ticks, process, ticked_by_other_than, turn};
use crate::scene::{two_of_each, unready, whole};

/// What is not heard for this long has stopped: packets come 50 times a second.
const SILENCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_billing_timer_that_is_cut_off_or_stalled_is_replaced_by_the_other() -> Result<()> {
    let _turn = turn().await?;
    let mut stack = two_of_each().proxied().workers(1).edges(1).start().await?;
    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack)?).await?;
    let ticks = more_ticks(&stack, &call.call_id, 2).await?;
    let first = author(ticks.last().context("no tick")?)?;

    stack.links(&first)?.cut();
    unready(process(&mut stack.timers, &first)?).await?;
    let second = ticked_by_other_than(&stack, &call.call_id, &first).await?;
    stack.links(&first)?.mend();
    process(&mut stack.timers, &first)?.ready().await?;

    // It holds its share again: both do, and the call's partition may have gone back. Stall whoever has it.
    let ticks = more_ticks(&stack, &call.call_id, 2).await?;
    let holder = author(ticks.last().context("no tick")?)?;
    ensure!([&first, &second].contains(&&holder));
    stack.links(&holder)?.stall();
    ticked_by_other_than(&stack, &call.call_id, &holder).await?;
    unready(process(&mut stack.timers, &holder)?).await?;
    stack.links(&holder)?.mend();
    process(&mut stack.timers, &holder)?.ready().await?;

    more_ticks(&stack, &call.call_id, 2).await?;
    hang_up(&call).await?;
    whole(&stack, &call).await?;
    Ok(())
}

#[tokio::test]
async fn an_edge_and_then_a_worker_are_cut_off_and_come_back() -> Result<()> {
    let _turn = turn().await?;
    let mut stack = two_of_each().proxied().timers(1).start().await?;
    let pair = Pair::across(&stack)?;
    let (call, _user, _otomo) = Conversation::talking(pair).await?;
    more_ticks(&stack, &call.call_id, 2).await?;

    // The user's edge: the call ends behind its back.
    let edge = stack.edges.first().context("no edge")?.child().name().to_owned();
    stack.links(&edge)?.cut();
    unready(process(&mut stack.edges, &edge)?).await?;
    hang_up(&call).await?;
    facts(&stack).await?.expect(&call.call_id, "settled", SOON).await?;
    stack.links(&edge)?.mend();
    process(&mut stack.edges, &edge)?.ready().await?;
    let told = call.user.expect_notice_within("snapshot", SOON).await?;
    ensure!(
        told.payload().get("activeCall").is_some_and(|call| call.is_null()),
        "{told:?}"
    );
    call.user.close().await?;
    call.otomo.close().await?;

    // The worker, for longer than its entry lives: its call is over, and it learns so on its return.
    let (call, _user, otomo) = Conversation::talking(pair).await?;
    let accepted = facts(&stack).await?.expect(&call.call_id, "accepted", SOON).await?;
    let worker = accepted.text("workerId")?.to_owned();
    more_ticks(&stack, &call.call_id, 2).await?;
    let cut_at = Utc::now();
    stack.links(&worker)?.cut();
    unready(process(&mut stack.workers, &worker)?).await?;
    let record = whole(&stack, &call).await?;
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
    hears(&otomo).await.context("it cannot know yet, and lets media flow")?;

    stack.links(&worker)?.mend();
    let worker = process(&mut stack.workers, &worker)?;
    worker.ready().await?;
    hosts_no_call(worker).await?;
    let heard = otomo.heard();
    stays("the call's media has stopped", SILENCE, async || {
        ensure!(otomo.heard() == heard);
        Ok(())
    })
    .await?;
    // Nothing more comes of it.
    let again = Record::whole(&facts(&stack).await?, &call.call_id, INTERVAL_MS, SOON).await?;
    ensure!(again.ticks.len() == record.ticks.len());
    Ok(())
}

async fn hears(listener: &Caller) -> Result<()> {
    let before = listener.heard();
    eventually("sound", SILENCE, async || {
        ensure!(listener.heard() > before);
        Ok(())
    })
    .await
}

async fn hosts_no_call(worker: &Service) -> Result<()> {
    eventually("the worker hosting no call", SOON, async || {
        let (_, metrics) = worker.ops("/metrics").await?;
        let calls = metrics.lines().find(|line| line.starts_with("callpulse_media_calls "));
        ensure!(calls == Some("callpulse_media_calls 0"), "{calls:?}");
        Ok(())
    })
    .await
}
