//! Many clients that connect at once: until the last one is welcomed, and what the others notice meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::join;

use super::Plan;
use crate::clients::Clients;
use crate::figures::Figures;
use crate::parties::{Window, connect, identities, window};
use crate::server_kind::ServerKind;

const KINDS: [ServerKind; 3] = [ServerKind::Edge, ServerKind::Node, ServerKind::Bun];
const STORM: usize = 10_000;
/// Clients in calls, the notices to them, and for how long.
const LIVE: usize = 500;
const RATE: u64 = 1_000;
const CALM: Duration = Duration::from_secs(3);
const JOINING: usize = 7_500;
/// Notices are published while the others join, and a little longer.
const WHILE_JOINING: Duration = Duration::from_secs(4);

pub(super) async fn storm(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("storm", plan.repeats, plan.short);
    let identities = identities(STORM)?;
    for _ in 0..plan.repeats {
        for kind in KINDS {
            let server = kind.start(&plan.services).await?;
            let clients = Clients::new()?;
            let welcomed = connect(&clients, &server, &identities).await;
            let millis = welcomed.with_context(|| kind.name())?.as_secs_f64() * 1e3;
            figures.add("10000 sockets", "welcomed after ms", kind.name(), millis);
            progress(&format!("{:<22} all welcomed after {millis:>6.0} ms", kind.name()));
        }
    }
    Ok(figures)
}

pub(super) async fn joining(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("joining", plan.repeats, plan.short);
    let identities = identities(LIVE + JOINING)?;
    let (live, joining) = identities.split_at(LIVE);
    for _ in 0..plan.repeats {
        for kind in KINDS {
            let server = kind.start(&plan.services).await?;
            let (clients, others) = (Clients::new()?, Clients::new()?);
            connect(&clients, &server, live).await?;
            window(&clients, &server, live, RATE, CALM).await?;
            let calm = window(&clients, &server, live, RATE, CALM).await?;
            let (busy, joined) = join!(
                window(&clients, &server, live, RATE, WHILE_JOINING),
                connect(&others, &server, joining)
            );
            let (busy, joined) = (busy?, joined.with_context(|| kind.name())?);
            let mut add = |case: &str, window: Window| {
                figures.add(case, super::P50, kind.name(), window.p50_micros);
                figures.add(case, super::P99, kind.name(), window.p99_micros);
            };
            add("calm", calm);
            add("7500 join", busy);
            progress(&format!(
                "{:<22} p99 {:>7.0} µs calm, {:>7.0} µs while 7500 join within {:.0} ms",
                kind.name(),
                calm.p99_micros,
                busy.p99_micros,
                joined.as_secs_f64() * 1e3
            ));
        }
    }
    Ok(figures)
}
