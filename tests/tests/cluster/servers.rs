//! The cluster itself: what the other tests rest on.

use anyhow::{Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use callpulse_tests::nats_server::{NatsServer, Sync};

use crate::scene::turn;

const STREAM: &str = "KEPT";
const SUBJECT: &str = "kept.it";

#[tokio::test]
async fn a_server_that_comes_back_has_a_complete_copy_once_all_is_settled() -> Result<()> {
    let _turn = turn().await?;
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
    cluster.settled().await?;

    // With another one gone, the first one's vote and copy are needed.
    cluster.kill_node(second)?;
    cluster.stream_leader(STREAM).await?;
    ensure!(store(&cluster).await? == 3);
    Ok(())
}

/// The sequence of one more message.
async fn store(cluster: &NatsServer) -> Result<u64> {
    let jetstream = jetstream::new(async_nats::connect(cluster.url()).await?);
    Ok(jetstream.publish(SUBJECT, "it".into()).await?.await?.sequence)
}
