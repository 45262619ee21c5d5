//! Whether the cost stays flat from 10 to 10,000 calls or sockets, and from 1 to 4 edges, workers and timers.
//!
//! All processes share the machine: more of them do not make it faster here, but must not make the work more expensive.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::opus::Pace;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::scale::load::{self, PlannedCall};
use callpulse_tests::servers::child::resident_bytes;
use callpulse_tests::servers::process::Service;
use callpulse_tests::wait::{eventually, let_time_pass};
use contract::{CallId, Timestamp};

use super::Plan;
use super::ticks::{last_sequence, server_millis, stored};
use crate::clients::Clients;
use crate::figures::{Figures, OURS};
use crate::parties::{connect, identities, window};
use crate::relay_kind::RelayKind;
use crate::server_kind::{CONNECTIONS, Running};
use crate::usage::cpu_nanos;

/// Sockets on one edge, and sockets on several.
const SOCKETS: [usize; 4] = [10, 100, 1_000, 10_000];
const SPREAD_SOCKETS: usize = 2_000;
/// The same for all, so that only the number of sockets differs.
const NOTICES: (u64, Duration) = (1_000, Duration::from_secs(5));
const WARM_UP: Duration = Duration::from_secs(1);
/// Ticks due at one instant for one timer, and for several.
const CALLS: [usize; 4] = [10, 100, 1_000, 10_000];
const SPREAD_CALLS: usize = 10_000;
/// Calls with media, on all workers together.
const MEDIA_CALLS: usize = 48;
const MEDIA_WINDOW: Duration = Duration::from_secs(8);
/// Of edges, workers and timers.
const INSTANCES: [usize; 3] = [1, 2, 4];
const BILLING_TIMER: &str = "billing-timer";
/// A minute that is not over twice within the measurement.
const MINUTE: Duration = Duration::from_secs(30);
/// From the plan to the due instant.
const LEAD: Duration = Duration::from_secs(8);
/// Notices and the next plan count for the cost of a tick.
const AFTER_THE_TICKS: Duration = Duration::from_secs(1);

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("growth", plan.repeats, plan.short);
    for _ in 0..plan.repeats {
        let mut add = |case: String, values: &[(&str, f64)]| {
            let mut text = format!("{case:<16}");
            for (metric, value) in values {
                figures.add(&case, metric, OURS, *value);
                text.push_str(&format!(" {metric} {value:.1}"));
            }
            progress(&text);
        };
        for sockets in SOCKETS {
            add(format!("{sockets} sockets"), &notices(1, sockets, plan).await?);
        }
        for edges in INSTANCES {
            add(format!("edges: {edges}"), &notices(edges, SPREAD_SOCKETS, plan).await?);
        }
        for calls in CALLS {
            add(format!("{calls} calls"), &ticks(1, calls, plan).await?);
        }
        for timers in INSTANCES {
            add(format!("timers: {timers}"), &ticks(timers, SPREAD_CALLS, plan).await?);
        }
        for workers in INSTANCES {
            add(format!("workers: {workers}"), &media(workers).await?);
        }
    }
    Ok(figures)
}

async fn notices(edges: usize, sockets: usize, plan: &Plan) -> Result<[(&'static str, f64); 3]> {
    let folder = tempfile::Builder::new().prefix("callpulse-bench-").tempdir()?;
    let settings = [("limits.connections", CONNECTIONS)];
    let server = Running::edges(edges, &plan.services.join("ws-edge"), folder, &settings).await?;
    let (clients, identities) = (Clients::new()?, identities(sockets)?);
    connect(&clients, &server, &identities).await?;
    let (rate, duration) = NOTICES;
    window(&clients, &server, &identities, rate, WARM_UP).await?;
    let window = window(&clients, &server, &identities, rate, duration).await?;
    ensure!(window.lost == 0, "{} notices were lost", window.lost);
    Ok([
        (super::P50, window.p50_micros),
        (super::P99, window.p99_micros),
        (super::CPU, window.cpu_micros),
    ])
}

async fn ticks(timers: usize, calls: usize, plan: &Plan) -> Result<[(&'static str, f64); 2]> {
    let stack = plan.stack().workers(0).edges(0).timers(timers);
    let stack = stack.set(BILLING_TIMER, "tick_interval_ms", MINUTE.as_millis());
    let stack = stack.start().await?;
    let client = ContractClient::open(&stack.nats).await?;
    let due = Timestamp::now().plus(LEAD);
    let minute = u64::try_from(MINUTE.as_millis())?;
    let connected_at = Timestamp::from_millis(due.as_millis().saturating_sub_unsigned(minute));
    let connected_at = connected_at.context("a time before the epoch")?;
    let plan = (0..calls).map(|_| PlannedCall {
        id: CallId::generate(),
        connected_at,
    });
    load::connect(&client.facts, &plan.collect::<Vec<_>>()).await?;
    eventually("billing_active with all calls", LEAD, async || {
        let info = client.storage.billing_active.stream.get_info().await?;
        ensure!(info.state.messages >= calls as u64, "{} entries", info.state.messages);
        Ok(())
    })
    .await?;
    ensure!(Timestamp::now() < due, "the calls were injected too late");
    let facts = &client.storage.calls;
    let (before, cpu_before) = (last_sequence(facts).await?, cpu(&stack.timers)?);
    let_time_pass("the minute", due.until(Timestamp::now())).await;
    let last = stored(facts, before, calls).await?;
    let_time_pass("the timers rest", AFTER_THE_TICKS).await;
    let used = cpu(&stack.timers)?.saturating_sub(cpu_before);
    Ok([
        (super::LAST, server_millis(facts, last).await? - due.as_millis() as f64),
        (super::CPU_TICK, used as f64 / 1e3 / calls as f64),
    ])
}

fn cpu(services: &[Service]) -> Result<u64> {
    services.iter().map(|service| cpu_nanos(service.child().pid())).sum()
}

async fn media(workers: usize) -> Result<[(&'static str, f64); 2]> {
    let (mut relays, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..workers {
        let mut relay = RelayKind::MediaWorker.start().await?;
        for _ in 0..MEDIA_CALLS / workers {
            let call = relay.call().await?;
            call.talk(Pace::STEADY).await?;
            calls.push(call);
        }
        relays.push(relay);
    }
    let used = || relays.iter().map(|relay| cpu_nanos(relay.pid)).sum::<Result<u64>>();
    let received = || calls.iter().map(|call| call.received()).sum::<u64>();
    let_time_pass("handshakes end", WARM_UP).await;
    let before = (used()?, received());
    let_time_pass("the relays forward media", MEDIA_WINDOW).await;
    let (cpu, packets) = (used()? - before.0, received() - before.1);
    ensure!(packets > 0, "no packet was relayed");
    let memory = relays
        .iter()
        .map(|relay| resident_bytes(relay.pid))
        .sum::<Result<u64>>()?;
    Ok([
        (super::CPU_PACKET, cpu as f64 / 1e3 / packets as f64),
        (super::MIB, memory as f64 / 1024.0 / 1024.0),
    ])
}
