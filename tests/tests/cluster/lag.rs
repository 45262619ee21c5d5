//! A replica that lags behind the leader answers direct gets with what it has. Readers notice.

use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::commands;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::wait::{PermanentError, eventually};
use contract::jetstream::connection::API_PREFIX;
use contract::jetstream::storage::CALLS;
use contract::jetstream::stored_messages::{ALL_SUBJECTS, IncompleteRead, Last, Start, StoredMessages};
use contract::samples::{at, settled};
use contract::{PublishCondition, Timestamp};
use serde_json::Value;

use crate::fixture::{SOON, cluster_permit};

/// Settlements that every replica has, and all of them.
const REPLICATED: usize = 10;
const ALL: usize = 20;

/// Exit code of `billing-timer reconcile` if it did not read to the end.
const UNFINISHED: i32 = 3;

#[tokio::test]
async fn a_lagging_replica_does_not_end_a_read_early() -> Result<()> {
    let _permit = cluster_permit().await?;
    let folder = tempfile::tempdir()?;
    let mut cluster = NatsServer::start_cluster(folder.path(), Sync::Lazy, &[]).await?;
    drop(ContractClient::open(&cluster).await?);
    cluster.synced().await?;
    let leader = cluster.stream_leader(CALLS).await?;
    let lagging = (leader + 1) % cluster.nodes();
    let others = (0..cluster.nodes()).filter(|node| *node != lagging);
    let (at_leader, at_lagging) = (
        ContractClient::open_at(&cluster, leader).await?,
        ContractClient::open_at(&cluster, lagging).await?,
    );
    settle(&at_leader, 0..REPLICATED).await?;
    cluster.synced().await?;

    // The replica misses messages, and then is alone: it can neither catch up nor reach the leader.
    cluster.freeze_node(lagging)?;
    cluster.routes_closed(lagging).await?;
    let sequence = settle(&at_leader, REPLICATED..ALL).await?;
    for node in others.clone() {
        cluster.freeze_node(node)?;
    }
    cluster.resume_node(lagging)?;
    let stored_at = Timestamp::now();
    let last = Last { sequence, stored_at };
    let first = Start::Sequence(0);
    let mut messages = StoredMessages::up_to(&at_lagging.nats.client, API_PREFIX, CALLS, ALL_SUBJECTS, first, last);
    let page = messages.next_page().await?;
    ensure!(page.len() == REPLICATED, "{} messages", page.len());
    let lags = messages.next_page().await;
    ensure!(matches!(lags, Err(IncompleteRead::Lagging { .. })), "{lags:?}");
    let url = cluster.urls().into_iter().nth(lagging).context("no such server")?;
    let exported = export(&cluster, &url).await?;
    let log = String::from_utf8_lossy(&exported.stderr);
    ensure!(
        exported.status.code() == Some(1) && log.contains("the export is incomplete"),
        "{}: {log}",
        exported.status
    );
    let reconciled = reconcile(&cluster, &url).await?;
    ensure!(reconciled.status.code() == Some(UNFINISHED), "{reconciled:?}");

    // While the replica catches up, a read fails or is complete.
    for node in others {
        cluster.resume_node(node)?;
    }
    eventually("a complete export", SOON, async || {
        let exported = export(&cluster, &url).await?;
        ensure!(exported.status.success(), "{exported:?}");
        let records = exported.stdout.iter().filter(|byte| **byte == b'\n').count();
        if records != ALL {
            bail!(PermanentError(format!("{records} records with success")));
        }
        Ok(())
    })
    .await?;
    eventually("a complete reconciliation", SOON, async || {
        let reconciled = reconcile(&cluster, &url).await?;
        ensure!(reconciled.status.code() != Some(UNFINISHED), "{reconciled:?}");
        let summary = reconciled
            .stdout
            .split(|byte| *byte == b'\n')
            .rfind(|line| !line.is_empty());
        let summary: Value = serde_json::from_slice(summary.context("no summary")?)?;
        if summary["summary"]["facts"] != ALL {
            bail!(PermanentError(format!("{summary}")));
        }
        Ok(())
    })
    .await?;
    // A replica that still catches up may answer with a part of them.
    let mut rest = Vec::new();
    loop {
        let page = eventually("the rest of the messages", SOON, async || {
            Ok(messages.next_page().await?)
        })
        .await?;
        if page.is_empty() {
            break;
        }
        rest.extend(page.into_iter().map(|message| message.sequence));
    }
    ensure!(rest.len() == ALL - REPLICATED, "{rest:?}");
    ensure!(
        rest.is_sorted_by(|one, next| one < next) && rest.last() == Some(&sequence),
        "{rest:?}"
    );
    Ok(())
}

/// Stores settlements, and returns the last one's sequence.
async fn settle(client: &ContractClient, calls: std::ops::Range<usize>) -> Result<u64> {
    let mut last = 0;
    for call in calls {
        let settled = settled(&format!("call_{call}"), at(0), 90_000, 1);
        last = client.publish(settled, PublishCondition::First).await?;
    }
    Ok(last)
}

async fn export(cluster: &NatsServer, url: &str) -> Result<Output> {
    let mut command = commands::callctl(cluster, "observer", &["export", "--from", "2020-01-01", "--json"])?;
    command.env("CALLCTL_NATS_URL", url);
    commands::output(command).await
}

async fn reconcile(cluster: &NatsServer, url: &str) -> Result<Output> {
    let url = [("nats.url", url.to_owned())];
    commands::output(commands::reconcile(cluster, "1ms", url)?).await
}
