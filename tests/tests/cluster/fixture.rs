//! A stack on a cluster, with a limit of simultaneous clusters, and waits for stored facts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::facts::record::Record;
use callpulse_tests::servers::process::Service;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::wait::eventually;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The deadline for a step with an election, which takes four to nine seconds, or twice that after a split vote.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The length of a minute.
pub(crate) const INTERVAL_MS: i64 = 500;

/// The limit of simultaneous clusters. Each has three servers that sync to the disk, and six services.
const MAX_CLUSTERS: usize = 3;
static CLUSTERS: Semaphore = Semaphore::const_new(MAX_CLUSTERS);

/// Waits for a permit, which must live as long as the stack.
pub(crate) async fn cluster_permit() -> Result<SemaphorePermit<'static>> {
    Ok(CLUSTERS.acquire().await?)
}

/// Two of each service, on three servers.
pub(crate) fn two_of_each() -> StackBuilder {
    StackBuilder::default()
        .cluster()
        .workers(2)
        .edges(2)
        .timers(2)
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        // Minutes count here, and not who was heard.
        .set("ws-edge", "terms.silence", "bill")
}

/// A new reader, connected to a running server. After a fault, create another one.
pub(crate) async fn facts(stack: &Stack) -> Result<Facts> {
    Facts::connect(&stack.nats.url()).await
}

/// Waits until a process is not ready.
pub(crate) async fn not_ready(service: &Service) -> Result<()> {
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

/// The stored ticks of a call, once there are `more` additional ones.
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
pub(crate) fn publisher(fact: &Fact) -> Result<String> {
    let source = fact.headers.get("ce-source").context("a fact without its source")?;
    let process = source.as_str().rsplit('/').next();
    Ok(process.unwrap_or_default().to_owned())
}

/// Waits for a tick that `former` did not publish.
pub(crate) async fn ticked_by_another(stack: &Stack, call_id: &str, former: &str) -> Result<String> {
    eventually(&format!("a tick not by {former}"), SOON, async || {
        let ticks = more_ticks(stack, call_id, 1).await?;
        let publisher = publisher(ticks.last().context("no tick")?)?;
        ensure!(publisher != former, "still by {former}");
        Ok(publisher)
    })
    .await
}

/// The process of that name.
pub(crate) fn process<'a>(services: &'a mut [Service], name: &str) -> Result<&'a mut Service> {
    let mut services = services.iter_mut();
    let found = services.find(|service| service.child().name() == name);
    found.with_context(|| format!("no process {name}"))
}

/// Hangs up, and retries until it succeeds.
pub(crate) async fn hang_up(call: &Conversation) -> Result<()> {
    let request = async || call.otomo.request("call_hangup", call.id()).await;
    eventually("hanging up", SOON, request).await.map(drop)
}

/// The record of a settled call, after both parties received its end.
#[allow(clippy::print_stderr, reason = "prints the delay of the ticks")]
pub(crate) async fn settled_record(stack: &Stack, call: &Conversation) -> Result<Record> {
    let record = Record::checked(&facts(stack).await?, &call.call_id, INTERVAL_MS, SOON).await?;
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

/// Waits until a client has sent `packets` more packets: 50 a second.
pub(crate) async fn sends(client: &Caller, packets: u64) -> Result<()> {
    let before = client.sent();
    eventually(&format!("{packets} packets"), SOON, async || {
        ensure!(client.sent() >= before + packets, "{} so far", client.sent() - before);
        Ok(())
    })
    .await
}
