//! CPU and memory of a media-worker whose calls have Opus both ways.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::opus::Pace;
use callpulse_tests::servers::child::resident_bytes;
use callpulse_tests::wait::let_time_pass;

use super::Plan;
use crate::figures::Figures;
use crate::relay_kind::{RelayKind, RelayedCall};
use crate::usage::cpu_nanos;

const CALLS: [usize; 3] = [50, 200, 500];
const WINDOW: Duration = Duration::from_secs(10);
/// After the last call has begun to send.
const SETTLING: Duration = Duration::from_secs(2);
/// While calls are set up: enough for a call to stay, and nothing that delays the handshakes of the next ones.
const SPARSE: Pace = Pace {
    every_frame_for: Duration::ZERO,
    pause: Duration::from_secs(2),
};

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("media", plan.repeats, plan.short);
    for _ in 0..plan.repeats {
        for kind in [RelayKind::MediaWorker, RelayKind::Bare, RelayKind::Traced] {
            run(kind, plan, &mut figures, progress)
                .await
                .with_context(|| kind.name())?;
        }
    }
    Ok(figures)
}

async fn run(kind: RelayKind, plan: &Plan, figures: &mut Figures, progress: &dyn Fn(&str)) -> Result<()> {
    let mut relay = kind.start().await?;
    let mut calls: Vec<RelayedCall> = Vec::new();
    let packets = |calls: &[RelayedCall]| {
        let sent: u64 = calls.iter().map(RelayedCall::sent).sum();
        (sent, calls.iter().map(RelayedCall::received).sum::<u64>())
    };
    let steps = if plan.short { 1 } else { CALLS.len() };
    for count in CALLS.into_iter().take(steps) {
        talk(&calls, SPARSE).await?;
        while calls.len() < count {
            let call = relay.call().await?;
            call.talk(SPARSE).await?;
            calls.push(call);
        }
        talk(&calls, Pace::STEADY).await?;
        let_time_pass("all send", SETTLING).await;
        let (before, cpu_before) = (packets(&calls), cpu_nanos(relay.pid)?);
        let_time_pass("the relay forwards media", WINDOW).await;
        let (after, cpu) = (packets(&calls), cpu_nanos(relay.pid)? - cpu_before);
        let (sent, received) = (after.0 - before.0, after.1 - before.1);
        ensure!(received > 0, "no packet was relayed");
        let per_packet = cpu as f64 / 1e3 / received as f64;
        let mib = resident_bytes(relay.pid)? as f64 / 1024.0 / 1024.0;
        let rate = received as f64 / WINDOW.as_secs_f64();
        let case = format!("{count} calls");
        for (metric, value) in [(super::CPU_PACKET, per_packet), (super::MIB, mib), ("packets/s", rate)] {
            figures.add(&case, metric, kind.name(), value);
        }
        progress(&format!(
            "{:<20} {case:>9}: CPU {per_packet:>5.2} µs a packet, {mib:>5.1} MiB, {rate:>6.0} packets/s, {:.1} % of the sent ones",
            kind.name(),
            received as f64 * 100.0 / sent.max(1) as f64
        ));
    }
    Ok(())
}

async fn talk(calls: &[RelayedCall], pace: Pace) -> Result<()> {
    for call in calls {
        call.talk(pace).await?;
    }
    Ok(())
}
