//! Calls that exist only as stored facts, without a worker.

use std::time::Duration;

use anyhow::Result;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::stack::Stack;
use contract::buckets::active_calls::ActiveCall;
use contract::samples::{accepted, parties, requested, rtp_detected, tick};
use contract::{Fact, Timestamp, TraceParent};
use futures::{StreamExt, TryStreamExt, stream};

/// Stores facts of calls that no worker hosts.
pub(super) struct Injector {
    client: ContractClient,
}

pub(super) const CALLS: usize = 5_000;
/// A minute.
pub(super) const INTERVAL_MS: u64 = 1_000;
pub(super) const STORES_AT_ONCE: usize = 256;

impl Injector {
    pub(super) async fn new(stack: &Stack) -> Result<Self> {
        let client = ContractClient::open(&stack.nats).await?;
        Ok(Self { client })
    }

    pub(super) async fn store(&self, fact: impl Into<Fact>) -> Result<()> {
        self.client.append(fact).await.map(drop)
    }

    /// Connected a minute ago, and ringing as far as `active_calls` says: no edge ends it.
    pub(super) async fn call(&self, number: usize, begun: Timestamp) -> Result<()> {
        let call = &call_id(number);
        let parties = parties(call);
        let entry = ActiveCall {
            parties,
            node_id: "elsewhere".parse()?,
            requested_at: begun,
            ring_deadline: begun.plus(Duration::from_secs(86_400)),
            accepted: None,
            traceparent: TraceParent::generate(),
        };
        let key = format!("call.{call}");
        self.client
            .storage
            .active_calls
            .put(key, serde_json::to_vec(&entry)?.into())
            .await?;
        self.store(requested(call, begun)).await?;
        self.store(accepted(call, begun)).await?;
        self.store(rtp_detected(call, begun)).await
    }

    pub(super) async fn tick_all(&self, minute: u32, begun: Timestamp) -> Result<()> {
        let ticks = (0..CALLS).map(async |number| self.store(tick(&call_id(number), minute, begun, INTERVAL_MS)).await);
        stream::iter(ticks).buffer_unordered(STORES_AT_ONCE).try_collect().await
    }
}

pub(super) fn call_id(number: usize) -> String {
    format!("call_{number:04}")
}
