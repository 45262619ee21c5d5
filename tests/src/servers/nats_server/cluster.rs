//! The state of a cluster's streams: leaders and replicas.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::Info;
use async_nats::jetstream::{self, Context as JetStream};
use async_nats::{Client, ConnectOptions};
use futures::TryStreamExt;

use crate::servers::process;
use crate::wait::eventually;

use super::NatsServer;

/// The deadline for an election and for a server to catch up. Elections alone take four to nine seconds.
const SYNCED_WITHIN: Duration = Duration::from_secs(40);
/// The timeout of one request: a server that was just killed does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl NatsServer {
    /// The leader of a stream, as an index for [`kill_node`](Self::kill_node). Waits for an election in progress.
    pub async fn stream_leader(&self, stream: &str) -> Result<usize> {
        eventually(&format!("a leader of {stream}"), SYNCED_WITHIN, async || {
            let jetstream = self.jetstream().await?;
            let info = jetstream.get_stream(stream).await?.cached_info().clone();
            let leader = leader(&info)?;
            let index = self.nodes.iter().position(|node| node.name() == leader);
            let index = index.with_context(|| format!("{leader} is not a server of this cluster"))?;
            ensure!(self.node(index)?.is_up(), "the others still report {leader} as leader");
            Ok(index)
        })
        .await
    }

    /// Waits until every server is running and all replicas are current.
    pub async fn synced(&self) -> Result<()> {
        eventually("all replicas being current", SYNCED_WITHIN, async || {
            for node in &self.nodes {
                ensure!(node.is_up(), "{} is not running", node.name());
                if let Some(monitoring) = node.monitoring() {
                    let (status, body) = process::get(monitoring, "/healthz").await?;
                    ensure!(status == 200, "{} says {status}: {body}", node.name());
                }
            }
            let jetstream = self.jetstream().await?;
            let streams: Vec<Info> = jetstream.streams().try_collect().await?;
            streams.iter().try_for_each(is_complete)
        })
        .await
    }

    /// Waits until every stream has a leader that answers.
    pub async fn leaders_elected(&self) -> Result<()> {
        eventually("every stream having a leader", SYNCED_WITHIN, async || {
            let jetstream = self.jetstream().await?;
            let names: Vec<String> = jetstream.stream_names().try_collect().await?;
            for name in names {
                jetstream
                    .get_stream(&name)
                    .await
                    .with_context(|| format!("asking for {name}"))?;
            }
            Ok(())
        })
        .await
    }

    /// Waits until no other server that runs has a route to this one.
    pub async fn routes_closed(&self, index: usize) -> Result<()> {
        let closed = self.node(index)?.name();
        eventually(&format!("no route to {closed}"), SYNCED_WITHIN, async || {
            for node in self.nodes.iter().filter(|node| node.is_up()) {
                let monitoring = node.monitoring().context("no monitoring")?;
                let (_, routes) = process::get(monitoring, "/routez").await?;
                ensure!(!routes.contains(&format!("\"remote_name\": \"{closed}\"")), "{routes}");
            }
            Ok(())
        })
        .await
    }

    /// Waits until JetStream has a meta leader.
    pub(super) async fn meta_leader_elected(&self) -> Result<()> {
        eventually("JetStream having a leader", SYNCED_WITHIN, async || {
            let jetstream = self.jetstream().await?;
            jetstream.streams().try_collect::<Vec<_>>().await.map(drop)?;
            Ok(())
        })
        .await
    }

    async fn jetstream(&self) -> Result<JetStream> {
        let urls: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.is_up())
            .map(|node| node.url())
            .collect();
        ensure!(!urls.is_empty(), "no server is running");
        let options = ConnectOptions::new()
            .connection_timeout(ANSWER_WITHIN)
            .ignore_discovered_servers();
        let client: Client = options.connect(urls).await?;
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(ANSWER_WITHIN);
        Ok(jetstream)
    }
}

fn leader(info: &Info) -> Result<&str> {
    let name = &info.config.name;
    let cluster = info
        .cluster
        .as_ref()
        .with_context(|| format!("{name} is not replicated"))?;
    cluster
        .leader
        .as_deref()
        .with_context(|| format!("{name} has no leader"))
}

fn is_complete(info: &Info) -> Result<()> {
    let name = &info.config.name;
    if info.config.num_replicas < 2 {
        return Ok(());
    }
    leader(info)?;
    let replicas = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    let current = replicas
        .filter(|replica| replica.current && !replica.offline && replica.lag.unwrap_or_default() == 0)
        .count();
    ensure!(
        current + 1 == info.config.num_replicas,
        "{name} has {current} current replicas beside its leader"
    );
    Ok(())
}
