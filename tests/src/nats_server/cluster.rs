//! What three servers know of their streams: who leads, and whether all copies are complete.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::Info;
use async_nats::jetstream::{self, Context as JetStream};
use async_nats::{Client, ConnectOptions};
use futures::TryStreamExt;

use crate::process;
use crate::wait::eventually;

use super::NatsServer;

/// How long an election and the catching up of a server may take. Elections alone take four to nine seconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(40);
/// How long one question may take until it is asked again: a server that was just killed answers nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl NatsServer {
    /// Which server leads a stream: an index for [`kill_node`](Self::kill_node). Waits for an election that is going on.
    ///
    /// # Errors
    /// When there is no such stream, or nobody leads it in time.
    pub async fn stream_leader(&self, stream: &str) -> Result<usize> {
        eventually(&format!("a leader of {stream}"), SETTLED_WITHIN, async || {
            let jetstream = self.jetstream().await?;
            let info = jetstream.get_stream(stream).await?.cached_info().clone();
            let leader = leader(&info)?;
            let index = self.nodes.iter().position(|node| node.name() == leader);
            let index = index.with_context(|| format!("{leader} is none of ours"))?;
            ensure!(
                self.node(index)?.is_up(),
                "{leader} still leads it by the others' account"
            );
            Ok(index)
        })
        .await
    }

    /// Waits until every server runs and has a complete copy of every stream and consumer that it should have one of.
    ///
    /// # Errors
    /// When that is not so in time; the error says what is missing.
    pub async fn settled(&self) -> Result<()> {
        eventually("all copies being complete", SETTLED_WITHIN, async || {
            for node in &self.nodes {
                ensure!(node.is_up(), "{} does not run", node.name());
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

    /// Waits until every stream has a leader that answers, with the servers that run.
    ///
    /// # Errors
    /// When that is not so in time; the error says which has none.
    pub async fn led(&self) -> Result<()> {
        eventually("every stream having a leader", SETTLED_WITHIN, async || {
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

    /// Waits until there is a JetStream to ask for streams: enough servers know each other and have elected one.
    pub(super) async fn elected(&self) -> Result<()> {
        eventually("JetStream having a leader", SETTLED_WITHIN, async || {
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
        ensure!(!urls.is_empty(), "no server runs");
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
        .with_context(|| format!("{name} has one copy only"))?;
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
        "{name} has {current} complete copies beside its leader's"
    );
    Ok(())
}
