//! Notices to 2,000 sockets, at four rates.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Plan;
use crate::clients::Clients;
use crate::figures::Figures;
use crate::parties::{connect, identities, window};
use crate::server_kind::ServerKind;

const SOCKETS: usize = 2_000;
/// Notices a second, and the seconds of a window: a long one at the lowest rate, whose notices are few.
const RATES: [(u64, u64); 4] = [(200, 5), (5_000, 4), (20_000, 4), (80_000, 3)];
/// Before the first window: compilers that work at run time need it.
const WARM_UP: (u64, Duration) = (5_000, Duration::from_secs(2));
const KINDS: [ServerKind; 4] = [
    ServerKind::Edge,
    ServerKind::Node,
    ServerKind::Bun,
    ServerKind::NatsWebSocket,
];

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("notices", plan.repeats, plan.short);
    let identities = identities(SOCKETS)?;
    for _ in 0..plan.repeats {
        for kind in KINDS {
            let run = run(kind, &identities, plan, &mut figures, progress);
            run.await.with_context(|| kind.name())?;
        }
    }
    Ok(figures)
}

async fn run(
    kind: ServerKind,
    identities: &[crate::clients::Identity],
    plan: &Plan,
    figures: &mut Figures,
    progress: &dyn Fn(&str),
) -> Result<()> {
    let server = kind.start(&plan.services).await?;
    let clients = Clients::new()?;
    connect(&clients, &server, identities).await?;
    let (rate, duration) = WARM_UP;
    window(&clients, &server, identities, rate, duration).await?;
    for (rate, seconds) in RATES {
        let seconds = if plan.short { seconds.min(3) } else { seconds };
        let window = window(&clients, &server, identities, rate, Duration::from_secs(seconds)).await?;
        let case = format!("{rate}/s");
        for (metric, value) in [
            (super::P50, window.p50_micros),
            (super::P99, window.p99_micros),
            (super::CPU, window.cpu_micros),
            ("lost", window.lost as f64),
        ] {
            figures.add(&case, metric, kind.name(), value);
        }
        progress(&format!(
            "{:<22} {case:>8}: p50 {:>8.0} µs, p99 {:>9.0} µs, CPU {:>6.1} µs a notice, {} of {} lost",
            kind.name(),
            window.p50_micros,
            window.p99_micros,
            window.cpu_micros,
            window.lost,
            window.sent
        ));
    }
    Ok(())
}
