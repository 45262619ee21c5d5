//! Calls between headless callers on machines of their own: a port that is remapped, and bad networks.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::token::Role;
use callpulse_tests::wait::{eventually, let_time_pass};
use serde_json::Value;

use crate::caller::Part;
use crate::heard::now;
use crate::topology::{PUBLIC, Path, SERVER, Topology};

const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(90);
/// Row 7: 3 s without a packet, and the restart.
const REMAPPED_MS: i64 = 6_000;
/// What a busy machine may add, where no figures are asked for.
const BUSY_MS: i64 = 4_000;
/// How long the otomo is away: longer than the silence that is a loss, shorter than the one that ends the call.
const AWAY: Duration = Duration::from_secs(9);
/// Packets come every 20 ms, or after a busy machine's pause.
const HEARD_EVERY_MS: u64 = 1_000;
/// How long a call in a bad network lasts: longer than any timeout of a silence.
const BAD_NETWORK: Duration = Duration::from_secs(20);
const JITTER: Duration = Duration::from_millis(200);
const LOSS_PERCENT: u32 = 5;

async fn start(worker: &[(&str, &str)]) -> Result<(Stack, Facts)> {
    let mut stack = StackBuilder::default().set("media-worker", "listen_ip", SERVER).set(
        "ws-edge",
        "listen",
        format!("{SERVER}:0"),
    );
    for (key, value) in worker {
        stack = stack.set("media-worker", key, value);
    }
    let stack = stack.start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    Ok((stack, facts))
}

/// The facts of the only call, once it has this one.
async fn facts_with(facts: &Facts, name: &str, within: Duration) -> Result<Vec<Fact>> {
    eventually(name, within, async || {
        let all = facts.all().await?;
        ensure!(all.iter().any(|fact| fact.name == name), "no {name}");
        Ok(all)
    })
    .await
}

fn losses(facts: &[Fact]) -> Vec<&str> {
    let names = facts.iter().map(|fact| fact.name.as_str());
    names
        .filter(|name| name.starts_with("rtp_") && *name != "rtp_detected")
        .collect()
}

/// Row 7: the NAT gives the client another port, and the client nominates only once. It hears nothing until it restarts ICE.
pub(crate) async fn remapped(networks: &Topology) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (stack, facts) = start(&[]).await?;
    let part = |role, nominates_once| Part {
        role,
        edge: stack.edge(0).unwrap(),
        talks: Duration::from_secs(20),
        jitter: Duration::ZERO,
        nominates_once,
    };
    let otomo = part(Role::Otomo, false).start(networks.itself_on("peer")?, folder.path())?;
    let user = part(Role::User, true).start(networks.itself_on("client")?, folder.path())?;
    facts_with(&facts, "rtp_detected", CONNECTED_WITHIN).await?;
    let_time_pass("both hear each other", Duration::from_secs(4)).await;
    let gone = now();
    networks.forget_mappings(Path::Wifi)?;
    let (user, _) = (
        user.until_ended(ENDED_WITHIN).await?,
        otomo.until_ended(ENDED_WITHIN).await?,
    );
    let back = user.heard.back_at(gone).context("the user hears nothing any more")? - gone;
    eprintln!(
        "Remapped: sound is back after {back} ms and {} restarts of ICE",
        user.restarts
    );
    ensure!(user.restarts >= 1, "the port was not remapped");
    let slack_ms = if env::var_os("NETWORKS_TRIES").is_some() {
        0
    } else {
        BUSY_MS
    };
    ensure!(back <= REMAPPED_MS + slack_ms, "{back} ms");
    let stored = facts_with(&facts, "settled", ENDED_WITHIN).await?;
    ensure!([&[][..], &["rtp_lost", "rtp_resumed"]].contains(&losses(&stored).as_slice()));
    Ok(())
}

/// The otomo's path carries nothing for a time: the bill is less by that time, as the terms say.
pub(crate) async fn absent_otomo(networks: &Topology) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (stack, facts) = start(&[]).await?;
    let part = |role| Part {
        role,
        edge: stack.edge(0).unwrap(),
        talks: Duration::from_secs(22),
        jitter: Duration::ZERO,
        nominates_once: false,
    };
    let otomo = part(Role::Otomo).start(networks.itself_on("peer")?, folder.path())?;
    let user = part(Role::User).start(networks.itself_on("client")?, folder.path())?;
    facts_with(&facts, "rtp_detected", CONNECTED_WITHIN).await?;
    let_time_pass("both hear each other", Duration::from_secs(4)).await;
    networks.silence(Path::Peer)?;
    let_time_pass("the otomo is away", AWAY).await;
    networks.carry(Path::Peer)?;
    user.until_ended(ENDED_WITHIN).await?;
    otomo.until_ended(ENDED_WITHIN).await?;
    let stored = facts_with(&facts, "settled", ENDED_WITHIN).await?;
    ensure!(losses(&stored) == ["rtp_lost", "rtp_resumed"], "{:?}", losses(&stored));
    let settled = &stored.last().context("no facts")?.payload;
    let ms = |value: &Value| value.as_u64().unwrap_or_default();
    let (silent, lasted) = (ms(&settled["silentMs"]["otomo"]), ms(&settled["durationMs"]));
    let away = u64::try_from(AWAY.as_millis())?;
    ensure!(silent + HEARD_EVERY_MS >= away && silent < lasted, "{settled}");
    ensure!(ms(&settled["billedMs"]) == lasted - silent, "{settled}");
    ensure!(
        ms(&settled["billedMinutes"]) == (lasted - silent) / ms(&settled["terms"]["intervalMs"]),
        "{settled}"
    );
    Ok(())
}

/// Loss, jitter and reordering in both directions, a small MTU, symmetric NATs on both sides, and a worker behind DNAT.
pub(crate) async fn bad_network(networks: &Topology) -> Result<()> {
    let folder = tempfile::tempdir()?;
    networks.publish_server()?;
    for path in Path::ALL {
        networks.shrink(path)?;
    }
    let (stack, facts) = start(&[("announced_address", PUBLIC)]).await?;
    let part = |role| Part {
        role,
        edge: stack.edge(0).unwrap(),
        talks: BAD_NETWORK,
        jitter: JITTER,
        nominates_once: false,
    };
    let otomo = part(Role::Otomo).start(networks.itself_on("peer")?, folder.path())?;
    let user = part(Role::User).start(networks.itself_on("client")?, folder.path())?;
    facts_with(&facts, "rtp_detected", CONNECTED_WITHIN).await?;
    for path in Path::ALL {
        networks.lose(path, LOSS_PERCENT)?;
    }
    let (user, otomo) = (
        user.until_ended(ENDED_WITHIN).await?,
        otomo.until_ended(ENDED_WITHIN).await?,
    );
    for (name, report) in [("user", &user), ("otomo", &otomo)] {
        // 50 packets a second, or 2 in 40 ms.
        let of_sent = report.heard.packets() * 2_000 / report.heard.lasted_ms().unsigned_abs().max(1);
        eprintln!(
            "BadNetwork: the {name} sends {} packets, and hears {of_sent} % of the peer's",
            report.sent
        );
        // Twice 5 % are lost; a busy machine may lose more.
        ensure!((50..100).contains(&of_sent), "the {name} hears {of_sent} %");
    }
    let stored = facts_with(&facts, "settled", ENDED_WITHIN).await?;
    ensure!(losses(&stored).is_empty(), "{:?}", losses(&stored));
    Ok(())
}
