//! A connection to NATS through the contract crate, as a service has.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use contract::jetstream::storage::Storage;
use contract::{Fact, FactStore, Nats, NatsSettings, PublishCondition, Source, TraceParent};
use tokio::time::timeout;

use crate::servers::nats_server::NatsServer;

/// The deadline for opening the streams and buckets; a cluster elects a leader for each.
const OPENED_WITHIN: Duration = Duration::from_secs(30);
/// The connection's name, and the source of the facts that it stores.
const NAME: &str = "test";

/// An open connection with its streams and buckets.
#[derive(Debug, Clone)]
pub struct ContractClient {
    /// The connection.
    pub nats: Nats,
    /// Its streams and buckets.
    pub storage: Storage,
    /// Publishes facts, and reads back what is stored.
    pub facts: FactStore,
}

impl ContractClient {
    /// Connects to a server, or to any server of a cluster, and opens the streams and buckets, which creates what is missing.
    ///
    /// # Errors
    /// When the server does not answer in time, or a stream differs.
    pub async fn open(server: &NatsServer) -> Result<Self> {
        Self::connect(settings(server, server.url()), "").await
    }

    /// Like [`open`](Self::open), connected to one server of a cluster only.
    ///
    /// # Errors
    /// When there is no such server or it does not answer in time.
    pub async fn open_at(server: &NatsServer, node: usize) -> Result<Self> {
        let url = server.urls().into_iter().nth(node).context("no such server")?;
        Self::connect(settings(server, url), "").await
    }

    /// Like [`open`](Self::open), as one NATS user of `accounts.conf`.
    ///
    /// # Errors
    /// When there is no such user or the server does not answer in time.
    pub async fn open_with_rights_of(server: &NatsServer, user: &str) -> Result<Self> {
        let settings = NatsSettings {
            user: user.to_owned(),
            ..settings(server, server.url())
        };
        Self::connect(settings, server.password(user)?).await
    }

    async fn connect(settings: NatsSettings, password: &str) -> Result<Self> {
        let nats = Nats::connect(&settings, password, NAME).await?;
        let storage = timeout(OPENED_WITHIN, Storage::open_when_available(&nats))
            .await
            .context("opening the streams and buckets")??;
        let facts = FactStore::new(&nats, &storage, Source::new(NAME, "1"));
        Ok(Self { nats, storage, facts })
    }

    /// Stores a fact under a condition, and returns its sequence.
    ///
    /// # Errors
    /// When the stream rejects it or does not answer.
    pub async fn publish(&self, fact: impl Into<Fact>, condition: PublishCondition) -> Result<u64> {
        let outcome = self
            .facts
            .publish(&fact.into(), condition, TraceParent::generate())
            .await?;
        outcome.sequence().with_context(|| format!("not stored: {outcome:?}"))
    }

    /// Stores a fact after the last stored fact of its call, and returns its sequence.
    ///
    /// # Errors
    /// When the stream rejects it, because another fact came in between, or does not answer.
    pub async fn append(&self, fact: impl Into<Fact>) -> Result<u64> {
        let fact = fact.into();
        let sequence = self.facts.sequence_of_call(fact.call_id()).await?;
        self.publish(fact, PublishCondition::CallUnchangedSince(sequence)).await
    }

    /// Stores a payload without a publish condition, as a faulty publisher or an operator could.
    ///
    /// # Errors
    /// When no stream has the subject, or it does not answer.
    pub async fn publish_unconditionally(&self, subject: String, payload: Bytes) -> Result<()> {
        self.nats.jetstream.publish(subject, payload).await?.await?;
        Ok(())
    }
}

fn settings(server: &NatsServer, url: String) -> NatsSettings {
    NatsSettings {
        url,
        replicas: server.nodes(),
        ..NatsSettings::default()
    }
}
