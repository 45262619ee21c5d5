//! A caller between networks: Chromium with our page behind NATs, a headless otomo beside the servers, real media.
//!
//! In network namespaces, so it needs the right to make them. `make networks` runs it; with `TRIES=20` it repeats every change and
//! prints the percentiles.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
#![allow(clippy::print_stderr, reason = "figures, and the reason of a skip")]

#[path = "../browser/prerequisites.rs"]
mod prerequisites;
#[allow(dead_code, reason = "the scripts of other tests run on this machine")]
#[path = "../browser/script.rs"]
mod script;

mod call;
mod topology;

use std::env;

use topology::Topology;

/// Names the namespaces, in the process that runs among the servers.
const INSIDE: &str = "CALLPULSE_NETWORKS";

#[test]
#[ignore = "needs the right to make network namespaces, iproute2 and nftables: make networks"]
fn a_call_survives_the_changes_of_its_callers_networks() {
    if let Ok(prefix) = env::var(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let topology = Topology::inherited(prefix);
        return runtime.block_on(call::run(&topology)).unwrap();
    }
    let browser = prerequisites::Prerequisites::find();
    assert!(browser.is_some(), "no browser");
    let topology = match Topology::new() {
        Ok(topology) => topology,
        Err(error) => panic!("no network namespaces here: {error:#}"),
    };
    let mut itself = topology.on_servers(env::current_exe().unwrap());
    let name = "a_call_survives_the_changes_of_its_callers_networks";
    itself
        .args([name, "--exact", "--nocapture", "--ignored"])
        .env(INSIDE, topology.prefix());
    let status = itself.status().unwrap();
    assert!(status.success(), "{status}");
}
