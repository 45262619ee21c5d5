//! Resident memory a socket: 10,000 connected, authenticated and pushed to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::child::resident_bytes;
use callpulse_tests::wait::let_time_pass;

use super::Plan;
use crate::clients::Clients;
use crate::figures::Figures;
use crate::parties::{connect, identities, window};
use crate::server_kind::ServerKind;

const SOCKETS: usize = 10_000;
/// Two notices for each.
const PUSHES: (u64, Duration) = (5_000, Duration::from_secs(4));
/// Collectors of garbage get a moment.
const SETTLING: Duration = Duration::from_secs(3);

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("memory", plan.repeats, plan.short);
    let identities = identities(SOCKETS)?;
    for _ in 0..plan.repeats {
        for kind in [ServerKind::Edge, ServerKind::Node, ServerKind::Bun] {
            let server = kind.start(&plan.services).await?;
            let idle = resident_bytes(server.pid)?;
            let clients = Clients::new()?;
            let connected = connect(&clients, &server, &identities).await;
            connected.with_context(|| kind.name())?;
            let (rate, duration) = PUSHES;
            let pushed = window(&clients, &server, &identities, rate, duration).await?;
            ensure!(pushed.lost == 0, "{} lost {} notices", kind.name(), pushed.lost);
            let_time_pass("memory settles", SETTLING).await;
            let used = resident_bytes(server.pid)?.saturating_sub(idle);
            let kib = used as f64 / SOCKETS as f64 / 1024.0;
            figures.add("10000 sockets", "KiB/socket", kind.name(), kib);
            progress(&format!(
                "{:<22} {kib:>6.1} KiB a socket, {:.1} MiB without sockets",
                kind.name(),
                idle as f64 / 1024.0 / 1024.0
            ));
        }
    }
    Ok(figures)
}
