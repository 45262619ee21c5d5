//! The queries of the dashboard and the rules of the alerts, in a real Prometheus that scrapes a real stack.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::wait::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(60);

/// Queries of these have no series without an event, because the values of their labels are open.
const WITHOUT_EVENTS: [&str; 3] = [
    "callpulse_log_lines_lost_total",
    "callpulse_page_requests_total",
    "callpulse_ws_unread_total",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where `make deploy-check` puts the program; else on the PATH.
fn program() -> PathBuf {
    let unpacked = workspace().join(".tools/deploy-check/bin/prometheus");
    if unpacked.exists() {
        unpacked
    } else {
        "prometheus".into()
    }
}

/// Every query of the dashboard, as Grafana sends it.
fn queries() -> Vec<String> {
    fn collect(panels: &Value, queries: &mut Vec<String>) {
        for panel in panels.as_array().into_iter().flatten() {
            let targets = panel["targets"].as_array().into_iter().flatten();
            queries.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
            collect(&panel["panels"], queries);
        }
    }
    let text = fs::read_to_string(workspace().join("deploy/grafana/dashboards/callpulse.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard["panels"], &mut queries);
    let variables = [("$__rate_interval", "1m"), ("$__range", "1h")];
    for query in &mut queries {
        for (variable, value) in variables {
            *query = query.replace(variable, value);
        }
    }
    queries
}

async fn get(prometheus: SocketAddr, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(prometheus).await?;
    // HTTP/1.0: the answer is not in chunks.
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(serde_json::from_str(body)?)
}

/// The number of series in the result.
async fn series(prometheus: SocketAddr, query: &str) -> Result<usize> {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = get(prometheus, &format!("/api/v1/query?query={escaped}")).await?;
    ensure!(answer["status"] == "success", "{query}: {answer}");
    Ok(answer["data"]["result"].as_array().context("no result")?.len())
}

/// The configuration for Compose, with the addresses of the stack and a shorter interval.
fn configuration(targets: &[(&str, SocketAddr)]) -> String {
    let text = fs::read_to_string(workspace().join("deploy/prometheus/prometheus.yml")).unwrap();
    let lines = text.lines().map(|line| {
        let (indentation, key) = line.split_at(line.len() - line.trim_start().len());
        let of_line = targets
            .iter()
            .find(|(program, _)| key.contains(&format!("\"{program}-1:")));
        match of_line {
            Some((_, address)) => format!("{indentation}- targets: [\"{address}\"]"),
            None => line.replace("15s", "1s"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn every_query_of_the_dashboard_finds_exported_metrics() {
    if Command::new(program()).arg("--version").output().is_err() {
        eprintln!("no prometheus: `make deploy-check` unpacks it");
        return;
    }
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", 400)
        .start()
        .await
        .unwrap();
    let targets = [
        ("ws-edge", &stack.edges),
        ("media-worker", &stack.workers),
        ("billing-timer", &stack.timers),
    ];
    let targets = targets.map(|(program, services)| (program, services[0].address("ops").unwrap()));
    let folder = stack.folder();
    fs::write(folder.join("prometheus.yml"), configuration(&targets)).unwrap();
    fs::copy(
        workspace().join("deploy/prometheus/rules.yml"),
        folder.join("rules.yml"),
    )
    .unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = Command::new(program());
    command.current_dir(folder).args([
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=prometheus",
        &format!("--web.listen-address={free}"),
    ]);
    let _prometheus = Child::start("prometheus", &mut command, &folder.join("prometheus.log")).unwrap();
    let up = r#"up{job=~"media-worker|ws-edge|billing-timer"} == 1"#;
    eventually("three targets up", SOON, async || {
        ensure!(series(free, up).await? == 3, "not all up");
        Ok(())
    })
    .await
    .unwrap();

    let (call, _user, _otomo) = Conversation::talking(Pair::across(&stack).unwrap()).await.unwrap();
    call.user.expect_notice("tick").await.unwrap();
    call.user.request("call_hangup", call.id()).await.unwrap();
    call.user.expect_notice("call_ended").await.unwrap();
    call.otomo.close().await.unwrap();

    let queries = queries();
    assert!(queries.len() > 40, "{}", queries.len());
    for query in queries {
        eventually(&format!("series of {query}"), SOON, async || {
            let found = series(free, &query).await?;
            let may_be_empty = WITHOUT_EVENTS.iter().any(|metric| query.contains(metric));
            ensure!(found > 0 || may_be_empty, "none");
            Ok(())
        })
        .await
        .unwrap();
    }
    let rules = get(free, "/api/v1/rules").await.unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<_> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(rules.len() > 20, "{}", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
