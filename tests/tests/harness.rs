//! The harness itself, on which the other tests depend.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::servers::stack::StackBuilder;
use contract::jetstream::storage;
use contract::wire::subject;

const SOON: Duration = Duration::from_secs(5);

async fn server_with_facts(folder: &std::path::Path, sync: Sync) -> (NatsServer, Facts, jetstream::Context) {
    let server = NatsServer::start(folder, sync).await.unwrap();
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let subjects = vec![subject::ALL_FACTS.to_owned()];
    let calls = Config {
        name: storage::CALLS.to_owned(),
        subjects,
        ..Config::default()
    };
    jetstream.create_stream(calls).await.unwrap();
    let facts = Facts::connect(&server.url()).await.unwrap();
    (server, facts, jetstream)
}

async fn store(jetstream: &jetstream::Context, call: &str, name: &str, number: usize) {
    let payload = format!(r#"{{"callId":"{call}","number":{number}}}"#);
    jetstream
        .publish(format!("call.{call}.{name}"), payload.into())
        .await
        .unwrap()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, facts, jetstream) = server_with_facts(folder.path(), Sync::Always).await;
    let url = server.url();
    store(&jetstream, "c1", "requested", 1).await;
    server.kill().unwrap();
    assert!(async_nats::connect(&url).await.is_err(), "the server is down");
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    let again = Facts::connect(&url).await.unwrap();
    assert_eq!(again.of_call("c1").await.unwrap().len(), 1);
    server.stop().await.unwrap();
    drop(facts);
}

#[tokio::test]
async fn two_servers_share_nothing() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, _, jetstream) = server_with_facts(one.path(), Sync::Lazy).await;
    let (other, facts, _) = server_with_facts(other.path(), Sync::Lazy).await;
    assert_ne!(one.port(), other.port());
    store(&jetstream, "c1", "requested", 1).await;
    assert!(facts.of_call("c1").await.unwrap().is_empty());
}

#[tokio::test]
async fn facts_of_a_call_are_read_complete_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, facts, jetstream) = server_with_facts(folder.path(), Sync::Lazy).await;
    for number in 0..600 {
        store(&jetstream, if number % 2 == 0 { "even" } else { "odd" }, "tick", number).await;
    }
    let even = facts.of_call("even").await.unwrap();
    let numbers: Vec<u64> = even
        .iter()
        .map(|fact| fact.payload["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..600).step_by(2).collect::<Vec<_>>());
    assert!(facts.of_call("unknown").await.unwrap().is_empty());
    assert!(facts.of_call("a.b").await.is_err(), "no ID");
}

#[tokio::test]
async fn a_watch_sees_what_is_stored_after_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, facts, jetstream) = server_with_facts(folder.path(), Sync::Lazy).await;
    store(&jetstream, "c1", "requested", 1).await;
    let watch = facts.watch().await.unwrap();
    store(&jetstream, "c1", "accepted", 2).await;
    store(&jetstream, "c2", "requested", 3).await;
    assert_eq!(watch.expect("c2", "requested", SOON).await.unwrap().sequence, 3);
    assert_eq!(watch.expect("c1", "accepted", SOON).await.unwrap().sequence, 2);
    let error = watch
        .expect("c1", "requested", Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("requested of c1"), "{error}");
    let error = facts
        .expect("c1", "ended", Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains(r#"["requested", "accepted"]"#),
        "{error:#}"
    );
}

/// Where `make deploy-check` puts it; else from the PATH.
const PROMTOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/deploy-check/bin/promtool");

/// What `promtool check metrics` says, or nothing without promtool.
fn lint(page: &str) -> Option<String> {
    let program = if Path::new(PROMTOOL).exists() {
        PROMTOOL
    } else {
        "promtool"
    };
    let mut command = Command::new(program);
    let command = command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some(format!(
        "{}{}",
        String::from_utf8_lossy(&said),
        if output.status.success() { "" } else { "failed" }
    ))
}

#[tokio::test]
async fn the_metrics_of_every_service_follow_the_conventions() {
    let stack = StackBuilder::default().start().await.unwrap();
    let services = [&stack.edges, &stack.workers, &stack.timers].map(|services| services.first().unwrap());
    // Of an idle instance: counters from the start, and what autoscalers read.
    for (service, idle) in services.into_iter().zip([
        [
            "callpulse_ws_notices_total 0",
            "callpulse_ws_connections 0",
            "callpulse_nats_connected 3",
        ],
        [
            "callpulse_media_facts_lost_total 0",
            "callpulse_media_calls 0",
            "callpulse_nats_connected 1",
        ],
        [
            "callpulse_billing_ticks_total 0",
            "callpulse_billing_active_calls 0",
            "callpulse_nats_connected 1",
        ],
    ]) {
        let idle = idle.into_iter().chain(["callpulse_nats_reconnects_total 0"]);
        let (_, page) = service.ops("/metrics").await.unwrap();
        let names = |comment: &str| -> BTreeSet<String> {
            let lines = page.lines().filter_map(|line| line.strip_prefix(comment));
            lines
                .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                .collect()
        };
        let (described, typed) = (names("# HELP "), names("# TYPE "));
        assert_eq!(described, typed, "families without HELP or TYPE");
        assert!(described.contains("process_cpu_seconds_total") && described.contains("callpulse_build_info"));
        for series in idle {
            assert!(page.lines().any(|line| line == series), "{series} is not in {page}");
        }
        assert_eq!(lint(&page).unwrap_or_default(), "", "{page}");
    }
}
