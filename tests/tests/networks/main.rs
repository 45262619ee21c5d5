//! Callers between networks: Chromium with our page and headless callers behind NATs, real servers, real media.
//!
//! In network namespaces, so it needs the right to make them. `make test` plays every row once, for what must hold on any machine;
//! `make networks` changes networks again and again, and judges percentiles.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
#![allow(clippy::print_stderr, reason = "figures")]

#[path = "../browser/prerequisites.rs"]
mod prerequisites;
#[allow(dead_code, reason = "the scripts of other tests run on this machine")]
#[path = "../browser/script.rs"]
mod script;

mod topology;

mod heard;

mod call;
mod caller;
mod headless;
mod reach;

use std::env;

use anyhow::{Context, Result, bail, ensure};
use callpulse_tests::skip::skipped_optionally;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use prerequisites::Prerequisites;
use topology::Topology;

/// Names the namespaces and the scenario, in the process that runs among the servers.
const INSIDE: &str = "CALLPULSE_NETWORKS";
const SCENARIO: &str = "CALLPULSE_NETWORKS_SCENARIO";

/// Runs a scenario in namespaces of its own.
fn run(scenario: &str) -> Result<()> {
    let topology = Topology::new()?;
    let mut itself = topology.itself_on("servers")?;
    itself
        .args(["process", "--exact", "--nocapture", "--ignored"])
        .env("RUST_BACKTRACE", "0")
        .env("RUST_LIB_BACKTRACE", "0")
        .env(INSIDE, topology.prefix())
        .env(SCENARIO, scenario);
    let status = itself.status().context(scenario.to_owned())?;
    ensure!(status.success(), "{scenario}: {status}");
    Ok(())
}

async fn inside(networks: &Topology, scenario: &str) -> Result<()> {
    match scenario {
        "changes" => call::run(networks).await,
        "remapped" => headless::remapped(networks).await,
        "absent_otomo" => headless::absent_otomo(networks).await,
        "bad_network" => headless::bad_network(networks).await,
        "turn_tcp" => reach::turn_tcp(networks).await,
        "turn_tls" => reach::turn_tls(networks).await,
        "ipv6_only" => reach::ipv6_only(networks).await,
        other => bail!("no scenario {other}"),
    }
}

/// Runs scenarios where this machine can; says why where it cannot.
fn play(scenarios: &[&str], needs_browser: bool) -> Result<()> {
    // Each at its own time: what they measure would suffer.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    if let Err(error) = Topology::probe() {
        skipped_optionally(&format!("no network namespaces here: {error:#}"));
        return Ok(());
    }
    if needs_browser && Prerequisites::find().is_none() {
        return Ok(());
    }
    scenarios.iter().try_for_each(|scenario| run(scenario))
}

/// Rows 1 to 6.
#[test]
fn a_call_survives_changes_of_network() -> Result<()> {
    play(&["changes"], true)
}

/// Row 7.
#[test]
fn a_remapped_port_is_noticed() -> Result<()> {
    play(&["remapped"], false)
}

/// Row 8.
#[test]
fn calls_connect_without_udp() -> Result<()> {
    play(&["turn_tcp", "turn_tls"], true)
}

/// Row 9.
#[test]
fn calls_connect_by_ipv6_only() -> Result<()> {
    play(&["ipv6_only"], true)
}

/// Loss, jitter, small packets and NATs.
#[test]
fn calls_survive_a_bad_network() -> Result<()> {
    play(&["bad_network"], false)
}

/// The otomo's network carries nothing for a time.
#[test]
fn an_absent_otomo_is_not_billed() -> Result<()> {
    play(&["absent_otomo"], false)
}

/// The process of a scenario among the servers, or of a caller on its machine; nothing where it is neither.
#[test]
#[ignore = "a process of the other tests"]
fn process() -> Result<()> {
    if let Ok(part) = env::var(caller::PART) {
        return Runtime::new()?.block_on(caller::play(&part));
    }
    if let (Ok(prefix), Ok(scenario)) = (env::var(INSIDE), env::var(SCENARIO)) {
        return Runtime::new()?.block_on(inside(&Topology::inherited(prefix), &scenario));
    }
    Ok(())
}
