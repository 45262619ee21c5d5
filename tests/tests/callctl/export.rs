//! The legal record: every settled call of a period, once.

use std::fs;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use contract::samples::{self, at};
use contract::wire::fact::Settled;
use contract::wire::subject;
use contract::{FactKind, PublishCondition};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{lines, output, stderr_of_failure};

/// More than fit into one reply of the server.
const CALLS: usize = 1_100;

pub(crate) struct SettledCalls {
    pub(crate) server: NatsServer,
    client: ContractClient,
    folder: TempDir,
}

impl SettledCalls {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = NatsServer::start(&folder.path().join("nats"), Sync::Lazy).await?;
        let client = ContractClient::open(&server).await?;
        Ok(Self { server, client, folder })
    }

    pub(crate) async fn settle(&self, calls: std::ops::Range<usize>) -> Result<()> {
        let store = calls.map(|number| self.client.publish(settled(number), PublishCondition::First));
        futures::future::try_join_all(store).await.map(drop)
    }
}

fn settled(number: usize) -> Settled {
    Settled {
        connected_at: number.is_multiple_of(2).then_some(at(0)),
        ..samples::settled(&format!("call_{number}"), at(0), 90_000, 1)
    }
}

fn calls(records: &[Value]) -> Vec<&str> {
    let mut calls: Vec<_> = records.iter().filter_map(|record| record["callId"].as_str()).collect();
    calls.sort_unstable();
    calls.dedup();
    calls
}

#[tokio::test]
async fn adjacent_periods_contain_every_call_once() -> Result<()> {
    let settled = SettledCalls::start().await?;
    settled.settle(0..CALLS).await?;
    let all = lines(&output(&settled.server, &["export", "--from", "2020-01-01", "--json"]).await?)?;
    ensure!(
        all.len() == CALLS && calls(&all).len() == CALLS,
        "{} records",
        all.len()
    );

    // A boundary at the time of a settlement: that call belongs to the second period only.
    let cut = all[CALLS / 2]["settledAt"].as_str().context("no time")?;
    let before = ["export", "--from", "2020-01-01", "--to", cut, "--format", "jsonl"];
    let before = lines(&output(&settled.server, &before).await?)?;
    let after = lines(&output(&settled.server, &["export", "--from", cut, "--json"]).await?)?;
    ensure!(
        !before.is_empty() && before.len() + after.len() == CALLS,
        "{} + {}",
        before.len(),
        after.len()
    );
    ensure!(before.iter().all(|record| record["settledAt"].as_str() < Some(cut)));
    ensure!(after[0]["settledAt"] == cut);

    // `--after` resumes an interrupted export.
    let last = all[99]["sequence"].to_string();
    let rest = ["export", "--from", "2020-01-01", "--json", "--after", &last];
    ensure!(lines(&output(&settled.server, &rest).await?)? == all[100..]);
    Ok(())
}

#[tokio::test]
async fn csv_has_a_header_and_an_existing_file_is_never_overwritten() -> Result<()> {
    let settled = SettledCalls::start().await?;
    settled.settle(0..2).await?;
    let file = settled.folder.path().join("record.csv");
    let arguments = [
        "export",
        "--from",
        "2020-01-01",
        "-o",
        file.to_str().context("no path")?,
    ];
    ensure!(output(&settled.server, &arguments).await?.is_empty());
    let written = fs::read_to_string(&file)?;
    let mut rows: Vec<_> = written.lines().collect();
    rows[1..].sort_unstable();
    ensure!(
        rows[0]
            == "callId,userId,otomoId,connectedAt,endedAt,durationMs,ticks,overTicks,billedMinutes,reason,settledAt,sequence,\
                billedMs,userSilentMs,otomoSilentMs,untilMs,termsId,intervalMs,charge,freeMs,minimumMs,silence",
        "{written}"
    );
    ensure!(
        rows[1].starts_with(
            "call_0,u_call_0,o_call_0,2023-11-14T22:13:20.000Z,2023-11-14T22:14:50.000Z,90000,1,0,1,hangup,"
        ),
        "{written}"
    );
    ensure!(
        rows[2].starts_with("call_1,u_call_1,o_call_1,,2023-11-14T22:14:50.000Z,"),
        "{written}"
    );
    let again = stderr_of_failure(&settled.server, &arguments, 1).await?;
    ensure!(
        again.contains("record.csv") && fs::read_to_string(&file)? == written,
        "{again}"
    );
    Ok(())
}

#[tokio::test]
async fn an_undecodable_record_is_reported_and_does_not_stop_the_export() -> Result<()> {
    let settled = SettledCalls::start().await?;
    settled.settle(0..1).await?;
    let broken = subject::fact(&"call_broken".parse()?, FactKind::Settled);
    settled.client.publish_unconditionally(broken, "{}".into()).await?;
    settled.settle(1..2).await?;
    let stderr = stderr_of_failure(&settled.server, &["export", "--from", "2020-01-01", "--json"], 1).await?;
    ensure!(
        stderr.contains("call_broken") && stderr.contains("1 settlements could not be decoded"),
        "{stderr}"
    );
    ensure!(stderr.contains("2 calls settled"), "{stderr}");
    Ok(())
}
