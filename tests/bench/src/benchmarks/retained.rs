//! Many retained subjects in `CALLS`: what a start takes, and what a guarded publish takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::percentile::percentile;
use callpulse_tests::servers::child::resident_bytes;
use callpulse_tests::servers::stack::Stack;
use contract::jetstream::batch::MAX_BATCH;
use contract::samples::requested;
use contract::{CallId, PublishCondition, Timestamp};
use tokio::task::spawn_blocking;

use super::Plan;
use super::ticks::last_sequence;
use crate::bare_publisher::{Template, publish};
use crate::figures::{Figures, OURS};

const SUBJECTS: [u64; 3] = [100_000, 1_000_000, 4_000_000];
/// Batches that are written at once: nats-server accepts 50 in flight.
const FILLED_AT_ONCE: usize = 20 * MAX_BATCH;
const GUARDED: u32 = 500;
/// The deadline for a service to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("retained", plan.repeats, plan.short);
    for _ in 0..plan.repeats {
        let mut stack = plan.stack().start().await?;
        let empty = nats_memory(&mut stack)?;
        let largest = if plan.short { 100_000 } else { plan.retained };
        for subjects in SUBJECTS.into_iter().filter(|subjects| *subjects <= largest) {
            let started = Instant::now();
            fill(&stack, subjects).await?;
            let took = started.elapsed().as_secs_f64();
            progress(&format!(
                "{subjects} subjects are stored, the last ones within {took:.1} s"
            ));
            let case = format!("{subjects} subjects");
            for (metric, value) in figures_of(&mut stack, subjects, empty).await? {
                figures.add(&case, metric, OURS, value);
                progress(&format!("{case:>16}: {metric:<24} {value:>8.1}"));
            }
        }
    }
    Ok(figures)
}

fn nats_memory(stack: &mut Stack) -> Result<u64> {
    resident_bytes(stack.nats.children_mut().next().context("no server")?.pid())
}

/// Stores requests of as many other calls as are missing.
async fn fill(stack: &Stack, subjects: u64) -> Result<()> {
    let client = ContractClient::open(&stack.nats).await?;
    let calls = &client.storage.calls;
    let first = requested(CallId::generate().as_str(), Timestamp::now());
    let template = Template::stored(calls, client.publish(first, PublishCondition::First).await?).await?;
    loop {
        let missing = subjects.saturating_sub(last_sequence(calls).await?);
        if missing == 0 {
            return Ok(());
        }
        let count = usize::try_from(missing)?.min(FILLED_AT_ONCE);
        let ids: Vec<String> = (0..count).map(|_| CallId::generate().as_str().to_owned()).collect();
        let (bytes, replies) = template.batches(&ids, MAX_BATCH, None)?;
        let port = stack.nats.port();
        spawn_blocking(move || publish(port, bytes, replies)).await??;
    }
}

async fn figures_of(stack: &mut Stack, subjects: u64, empty: u64) -> Result<Vec<(&'static str, f64)>> {
    let client = ContractClient::open(&stack.nats).await?;
    let mut micros = Vec::new();
    for _ in 0..GUARDED {
        let fact = requested(CallId::generate().as_str(), Timestamp::now());
        let started = Instant::now();
        client.publish(fact, PublishCondition::First).await?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let of_publishes = |percent| percentile(micros.iter().copied(), percent).unwrap_or_default();
    let mut measured = vec![
        (super::GUARDED_P50, of_publishes(50)),
        (super::GUARDED_P99, of_publishes(99)),
    ];
    drop(client);
    let memory = nats_memory(stack)?.saturating_sub(empty);
    measured.push((super::NATS_BYTES, memory as f64 / subjects as f64));
    stack.nats.stop().await?;
    let started = Instant::now();
    stack.nats.restart().await?;
    measured.push((super::NATS_START, millis(started)));
    let started = Instant::now();
    // Kills it.
    stack.nats.restart().await?;
    measured.push((super::NATS_START_KILLED, millis(started)));
    stack.ready().await?;
    let Stack {
        edges, workers, timers, ..
    } = stack;
    for (metric, services) in [
        (super::EDGE_START, edges),
        (super::WORKER_START, workers),
        (super::TIMER_START, timers),
    ] {
        let service = services.first_mut().context("no service")?;
        service.terminate(STOP_WITHIN).await?;
        let started = Instant::now();
        service.restart().await?;
        service.ready().await?;
        measured.push((metric, millis(started)));
    }
    Ok(measured)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
