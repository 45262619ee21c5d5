//! Calls that nobody hosts, by their facts alone.

use std::time::Duration;

use anyhow::Result;
use callpulse_tests::stack::Stack;
use contract::buckets::active_calls::ActiveCall;
use contract::jetstream::storage::Storage;
use contract::wire::fact::{Accepted, Method, Requested, RtpDetected, Tick};
use contract::{Fact, FactStore, Nats, NatsSettings, Parties, PublishCondition, Source, Timestamp, TraceParent};
use futures::{StreamExt, TryStreamExt, stream};

/// Facts of calls that nobody hosts, stored as services store them.
pub(super) struct Injector {
    facts: FactStore,
    storage: Storage,
}

pub(super) const CALLS: usize = 5_000;
pub(super) const STORES_AT_ONCE: usize = 256;

impl Injector {
    pub(super) async fn new(stack: &Stack) -> Result<Self> {
        let settings = NatsSettings {
            url: stack.nats.url(),
            ..NatsSettings::default()
        };
        let nats = Nats::connect(&settings, "", "injector").await?;
        let storage = Storage::open_when_available(&nats).await?;
        let facts = FactStore::new(&nats, &storage, Source::new("test", "injector"));
        Ok(Self { facts, storage })
    }

    pub(super) async fn store(&self, fact: impl Into<Fact>) -> Result<()> {
        let fact = fact.into();
        let sequence = self.facts.sequence_of_call(fact.call_id()).await?;
        let guard = PublishCondition::CallUnchangedSince(sequence);
        self.facts.publish(&fact, guard, TraceParent::generate()).await?;
        Ok(())
    }

    /// Connected a minute ago, and ringing as far as `active_calls` says: no edge ends it.
    pub(super) async fn call(&self, number: usize, begun: Timestamp) -> Result<()> {
        let parties = parties(number)?;
        let entry = ActiveCall {
            parties: parties.clone(),
            node_id: "elsewhere".parse()?,
            requested_at: begun,
            ring_deadline: begun.plus(Duration::from_secs(86_400)),
            accepted: None,
            traceparent: TraceParent::generate(),
        };
        let key = format!("call.{}", parties.call_id);
        self.storage
            .active_calls
            .put(key, serde_json::to_vec(&entry)?.into())
            .await?;
        self.store(Requested {
            parties: parties.clone(),
            requested_at: begun,
        })
        .await?;
        self.store(Accepted {
            parties: parties.clone(),
            accepted_at: begun,
            worker_id: "elsewhere".parse()?,
        })
        .await?;
        self.store(RtpDetected {
            parties,
            connected_at: begun,
            method: Method::SfuRtpDetected,
            detected_from: contract::Role::User,
            worker_id: "elsewhere".parse()?,
            producer_id: "p".to_owned(),
            ssrc: 1,
        })
        .await
    }

    pub(super) async fn tick_all(&self, minute: u32, begun: Timestamp) -> Result<()> {
        let ticks = (0..CALLS).map(async |number| {
            self.store(Tick {
                parties: parties(number)?,
                minute,
                at: begun.plus(Duration::from_secs(u64::from(minute))),
                connected_at: begun,
            })
            .await
        });
        stream::iter(ticks).buffer_unordered(STORES_AT_ONCE).try_collect().await
    }
}

pub(super) fn parties(number: usize) -> Result<Parties> {
    Ok(Parties {
        call_id: format!("call_{number:04}").parse()?,
        user_id: format!("user_{number:04}").parse()?,
        otomo_id: format!("otomo_{number:04}").parse()?,
    })
}
