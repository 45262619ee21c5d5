//! What the tests share: a stack on a cluster, not too many at a time, and waiting for what is stored.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::caller::Caller;
use callpulse_tests::conversation::Conversation;
use callpulse_tests::facts::{Fact, Facts};
use callpulse_tests::process::Service;
use callpulse_tests::record::Record;
use callpulse_tests::stack::{Stack, StackBuilder};
use callpulse_tests::wait::eventually;
use tokio::sync::{Semaphore, SemaphorePermit};

/// For what needs an election on the way: that takes four to nine seconds, and twice that when votes are split.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// A minute.
pub(crate) const INTERVAL_MS: i64 = 500;

/// Each is three servers that write to the disk and half a dozen processes; mostly they wait for elections.
const MOST_AT_ONCE: usize = 3;
static CLUSTERS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// Waits for its turn. Keep the permit for as long as the stack.
pub(crate) async fn turn() -> Result<SemaphorePermit<'static>> {
    Ok(CLUSTERS.acquire().await?)
}

/// Two of each service, on three servers.
pub(crate) fn two_of_each() -> StackBuilder {
    StackBuilder::default().cluster().workers(2).edges(2).timers(2).set(
        "billing-timer",
        "tick_interval_ms",
        INTERVAL_MS,
    )
}

/// A reader that begins at a server that is up. After a fault, begin anew.
pub(crate) async fn facts(stack: &Stack) -> Result<Facts> {
    Facts::connect(&stack.nats.url()).await
}

/// Waits until a process says that it is not ready.
pub(crate) async fn unready(service: &Service) -> Result<()> {
    eventually(
        &format!("{} not being ready", service.child().name()),
        SOON,
        async || {
            let (status, body) = service.ops("/readyz").await?;
            ensure!(status == 503, "/readyz answers {status}: {body}");
            Ok(())
        },
    )
    .await
}

/// The stored ticks of a call, once there are `more` than at this moment.
pub(crate) async fn more_ticks(stack: &Stack, call_id: &str, more: usize) -> Result<Vec<Fact>> {
    let facts = facts(stack).await?;
    let before = eventually("counting the ticks", SOON, async || ticks(&facts, call_id).await).await?;
    eventually(&format!("{more} more ticks than {}", before.len()), SOON, async || {
        let ticks = ticks(&facts, call_id).await?;
        ensure!(ticks.len() >= before.len() + more, "{} so far", ticks.len());
        Ok(ticks)
    })
    .await
}

async fn ticks(facts: &Facts, call_id: &str) -> Result<Vec<Fact>> {
    let stored = facts.of_call(call_id).await?;
    Ok(stored.into_iter().filter(|fact| fact.name == "tick").collect())
}

/// The process that stored a fact: `billing-timer-1` of `/billing-timer/billing-timer-1`.
pub(crate) fn author(fact: &Fact) -> Result<String> {
    let source = fact.headers.get("ce-source").context("a fact without its source")?;
    let process = source.as_str().rsplit('/').next();
    Ok(process.unwrap_or_default().to_owned())
}

/// Waits until somebody else than `former` ticks a call.
pub(crate) async fn ticked_by_other_than(stack: &Stack, call_id: &str, former: &str) -> Result<String> {
    eventually(&format!("a tick not by {former}"), SOON, async || {
        let ticks = more_ticks(stack, call_id, 1).await?;
        let author = author(ticks.last().context("no tick")?)?;
        ensure!(author != former, "still by {former}");
        Ok(author)
    })
    .await
}

/// The process of that name.
pub(crate) fn process<'a>(services: &'a mut [Service], name: &str) -> Result<&'a mut Service> {
    let mut services = services.iter_mut();
    let found = services.find(|service| service.child().name() == name);
    found.with_context(|| format!("no process {name}"))
}

/// Hangs up as soon as it is possible.
pub(crate) async fn hang_up(call: &Conversation) -> Result<()> {
    let request = async || call.otomo.request("call_hangup", call.id()).await;
    eventually("hanging up", SOON, request).await.map(drop)
}

/// The record of a call that is over, once it is settled, with both parties told.
#[allow(
    clippy::print_stderr,
    reason = "how long minutes waited is worth knowing also if it was not too long"
)]
pub(crate) async fn whole(stack: &Stack, call: &Conversation) -> Result<Record> {
    let record = Record::whole(&facts(stack).await?, &call.call_id, INTERVAL_MS, SOON).await?;
    for party in call.parties() {
        party.expect_notice_within("call_ended", SOON).await?;
    }
    let (minutes, delay) = (record.ticks.len(), record.longest_delay()?);
    eprintln!(
        "{}: {minutes} minutes, the latest by {} ms",
        call.call_id,
        delay.num_milliseconds()
    );
    Ok(record)
}

/// Waits until a speaker has sent so many packets more: 50 a second.
pub(crate) async fn spoken(speaker: &Caller, packets: u64) -> Result<()> {
    let before = speaker.sent();
    eventually(&format!("{packets} packets"), SOON, async || {
        ensure!(speaker.sent() >= before + packets, "{} so far", speaker.sent() - before);
        Ok(())
    })
    .await
}
