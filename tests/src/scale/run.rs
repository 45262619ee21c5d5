//! One run: inject the calls, let them tick, kill the billing-timer, restart it, end the calls, check.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::Timestamp;
use contract::jetstream::batch::MAX_BATCH;
use tokio::time::Instant;

use super::checker::{self, StoredTick};
use super::load;
use super::notices::{NoticeCounter, NoticeCounts};
use crate::facts::contract_client::ContractClient;
use crate::facts::reader::Facts;
use crate::percentile::percentile;
use crate::servers::child::resident_bytes;
use crate::servers::nats_server::Sync;
use crate::servers::process::Service;
use crate::servers::stack::{Stack, StackBuilder};
use crate::wait::{eventually, let_time_pass};

/// A tick stored later than this after its time is late.
pub const LATE: Duration = Duration::from_secs(1);
/// A notice may be published twice: before a crash, and again after it.
const MAX_PUBLISHED: u32 = 2;
/// Notices of the batches in flight at the kill are lost.
const MAX_LOST: usize = 2 * 4 * MAX_BATCH;
/// The slowest consumer that leaves the measured ticks undisturbed, in facts per second.
const CONSUMED_PER_SECOND: usize = 4_000;
/// From the end of the consumer to the measurement of ticks on time.
const SETTLING: Duration = Duration::from_secs(3);
/// No entry and no settlement for this long fails the run.
const STALLED_AFTER: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const ACTIVE_CALLS: &str = "callpulse_billing_active_calls";
/// For progress, how often a long wait is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Active calls.
    pub calls: usize,
    /// The length of a minute, in milliseconds.
    pub interval_ms: u64,
    /// How long ticks are observed before the kill, and again after it.
    pub observed: Duration,
    /// When the server's writes are on the disk.
    pub sync: Sync,
    /// The program, if not the one beside the running one.
    pub billing_timer: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Active calls.
    pub calls: usize,
    /// Facts per second, from the first injected fact until `billing_active` has all calls.
    pub consumed_per_second: f64,
    /// Resident memory per call just before the kill, less that without calls, in bytes.
    pub bytes_per_call: f64,
    /// How late ticks were stored before the kill: median, 99th percentile and maximum, in milliseconds.
    pub late_ms: [i64; 3],
    /// From the kill until the last tick was stored that was later than [`LATE`].
    pub on_time_after: Duration,
    /// From the first `ended` until the last settlement was stored and its entry removed.
    pub settled_after: Duration,
    /// The notices `tick` of the whole run.
    pub notices: NoticeCounts,
}

/// Plays one run and checks it. `progress` receives a line at each step.
/// Fails if a tick, a settlement or the number of a notice's publications is wrong.
pub async fn run(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut stack = start(plan).await?;
    let client = ContractClient::open(&stack.nats).await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let notices = NoticeCounter::subscribe(&stack.nats.url()).await?;
    let idle = resident_bytes(timer(&mut stack)?.child().pid())?;
    progress("started");

    let injected_at = Instant::now();
    let consume_budget = Duration::from_secs_f64(plan.calls as f64 / CONSUMED_PER_SECOND as f64) + SETTLING;
    let calls = load::plan(plan.calls, plan.interval_ms, Timestamp::now().plus(consume_budget));
    load::connect(&client.facts, &calls).await?;
    progress(&format!("facts injected within {:.1?}", injected_at.elapsed()));
    let entries = async || {
        let info = client.storage.billing_active.stream.get_info().await?;
        Ok(usize::try_from(info.state.messages)?)
    };
    counts_to("entries of billing_active", plan.calls, entries, progress).await?;
    let consumed_after = injected_at.elapsed();
    progress(&format!("billing_active has all calls after {consumed_after:.1?}"));
    let measured_from = Timestamp::now().plus(SETTLING);

    reaches(measured_from.plus(plan.observed), "ticks before the kill", progress).await;
    let active = resident_bytes(timer(&mut stack)?.child().pid())?;
    let killed_at = Timestamp::now();
    timer(&mut stack)?.kill()?;
    timer(&mut stack)?.restart().await?;
    progress(&format!("killed and restarted, {} B of memory before", active));
    reaches(killed_at.plus(plan.observed), "ticks after the kill", progress).await;

    let (ended_at, ending) = (Timestamp::now(), Instant::now());
    load::end(&client.facts, &calls, ended_at).await?;
    progress(&format!("ends injected within {:.1?}", ending.elapsed()));
    let timer = timer(&mut stack)?;
    counts_to("calls to settle", 0, async || unsettled(timer).await, progress).await?;
    let settled_after = ending.elapsed();
    progress(&format!("all calls settled after {settled_after:.1?}; checking"));

    let ticks = checker::check(&facts, &calls, plan.interval_ms, ended_at).await?;
    progress(&format!(
        "{} ticks and {} settlements are right",
        ticks.len(),
        calls.len()
    ));
    let notices = notices.counts();
    ensure!(
        notices.most <= MAX_PUBLISHED,
        "a notice was published {} times",
        notices.most
    );
    let lost = (2 * ticks.len()).saturating_sub(notices.notices);
    ensure!(lost <= MAX_LOST, "{lost} notices were not published");
    Ok(Figures {
        calls: plan.calls,
        consumed_per_second: plan.calls as f64 / consumed_after.as_secs_f64(),
        bytes_per_call: active.saturating_sub(idle) as f64 / plan.calls.max(1) as f64,
        late_ms: lateness(&ticks, measured_from, killed_at),
        on_time_after: on_time_after(&ticks, killed_at, ended_at),
        settled_after,
        notices,
    })
}

async fn start(plan: &Plan) -> Result<Stack> {
    let mut stack = StackBuilder::default().workers(0).edges(0).sync(plan.sync).set(
        "billing-timer",
        "tick_interval_ms",
        plan.interval_ms,
    );
    if let Some(path) = &plan.billing_timer {
        stack = stack.binary("billing-timer", path);
    }
    stack.start().await
}

fn timer(stack: &mut Stack) -> Result<&mut Service> {
    stack.timers.first_mut().context("no billing-timer")
}

/// Waits until `count` gives `wanted`. The deadline counts from the last change.
async fn counts_to(
    what: &str,
    wanted: usize,
    mut count: impl AsyncFnMut() -> Result<usize>,
    progress: &dyn Fn(&str),
) -> Result<()> {
    let (mut reported, mut last) = (Instant::now(), usize::MAX);
    while last != wanted {
        let before = last;
        last = eventually(what, STALLED_AFTER, async || {
            let counted = count().await?;
            ensure!(counted == wanted || counted != before, "{counted} instead of {wanted}");
            Ok(counted)
        })
        .await?;
        if reported.elapsed() > PROGRESS_INTERVAL {
            progress(&format!("{what}: {last}"));
            reported = Instant::now();
        }
        let_time_pass("a poll must not load the server", POLL_INTERVAL).await;
    }
    Ok(())
}

/// The calls that the billing-timer has not settled, by its own metrics.
async fn unsettled(timer: &Service) -> Result<usize> {
    let active = timer.metric(ACTIVE_CALLS).await?.context("no gauge of active calls")?;
    Ok(active as usize)
}

async fn reaches(moment: Timestamp, why: &str, progress: &dyn Fn(&str)) {
    let remaining = moment.until(Timestamp::now());
    progress(&format!("{why}: {:.0} s", remaining.as_secs_f64()));
    let_time_pass(why, remaining).await;
}

fn lateness(ticks: &[StoredTick], from: Timestamp, until: Timestamp) -> [i64; 3] {
    // The last second before the kill is left out: its ticks may be stored after the restart.
    let measured = from.as_millis()..until.as_millis() - 1_000;
    let measured = ticks.iter().filter(|tick| measured.contains(&tick.due_ms));
    let late: Vec<i64> = measured.map(|tick| tick.late_ms()).collect();
    [50, 99, 100].map(|percent| percentile(late.iter().copied(), percent).unwrap_or(0))
}

fn on_time_after(ticks: &[StoredTick], killed_at: Timestamp, ended_at: Timestamp) -> Duration {
    let late = i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX);
    let concerned = killed_at.as_millis()..ended_at.as_millis();
    let late = ticks
        .iter()
        .filter(|tick| concerned.contains(&tick.stored_ms) && tick.late_ms() > late);
    let last = late.map(|tick| tick.stored_ms).max();
    let after = last.map_or(0, |last| last - killed_at.as_millis());
    Duration::from_millis(u64::try_from(after).unwrap_or(0))
}
