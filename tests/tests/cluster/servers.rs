//! The cluster itself, on which the other tests depend.

use anyhow::{Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};

use crate::fixture::cluster_permit;

const STREAM: &str = "KEPT";
const SUBJECT: &str = "kept.it";

#[tokio::test]
async fn a_restarted_server_has_current_replicas_once_synced() -> Result<()> {
    let _permit = cluster_permit().await?;
    let folder = tempfile::tempdir()?;
    let mut cluster = NatsServer::start_cluster(folder.path(), Sync::Always, &[]).await?;
    let jetstream = jetstream::new(async_nats::connect(cluster.urls()).await?);
    let config = Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        num_replicas: cluster.nodes(),
        ..Config::default()
    };
    jetstream.create_stream(config).await?;
    store(&cluster).await?;

    let first = cluster.stream_leader(STREAM).await?;
    cluster.kill_node(first)?;
    let second = cluster.stream_leader(STREAM).await?;
    ensure!(first != second);
    store(&cluster).await?;
    cluster.restart_node(first).await?;
    cluster.synced().await?;

    // Without the second server, the vote and the replica of the first are needed.
    cluster.kill_node(second)?;
    cluster.stream_leader(STREAM).await?;
    ensure!(store(&cluster).await? == 3);
    Ok(())
}

/// Stores a message and returns its sequence.
async fn store(cluster: &NatsServer) -> Result<u64> {
    let jetstream = jetstream::new(async_nats::connect(cluster.url()).await?);
    Ok(jetstream.publish(SUBJECT, "it".into()).await?.await?.sequence)
}
