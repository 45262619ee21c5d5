//! Publications that a leader has received and not replicated. It must reject conflicting ones meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::wait::{let_time_pass, stays};
use contract::jetstream::storage::CALLS;
use contract::samples::{accepted, ended, requested, rtp_detected};
use contract::wire::fact::Ended;
use contract::{CallId, EndReason, Fact, FactStore, Outcome, PublishCondition, Timestamp, TraceParent};
use tokio::time::timeout;

use crate::fixture::{SOON, cluster_permit};

/// The time until a publication reaches the leader. Twice this is shorter than the election timeout.
const REACHES_LEADER: Duration = Duration::from_millis(500);

/// A call that rings.
struct Ringing {
    call_id: String,
    sequence: u64,
}

impl Ringing {
    async fn begin(client: &ContractClient) -> Result<Self> {
        let call_id = CallId::generate().to_string();
        let sequence = client.append(requested(&call_id, Timestamp::now())).await?;
        Ok(Self { call_id, sequence })
    }

    fn ended(&self, reason: EndReason) -> Fact {
        Ended {
            reason,
            ..ended(&self.call_id, Timestamp::now(), None)
        }
        .into()
    }

    fn accepted(&self) -> Fact {
        accepted(&self.call_id, Timestamp::now()).into()
    }

    fn connected(&self) -> Fact {
        rtp_detected(&self.call_id, Timestamp::now()).into()
    }
}

#[tokio::test]
async fn only_one_of_two_conflicting_publications_in_flight_is_stored() -> Result<()> {
    let _permit = cluster_permit().await?;
    let folder = tempfile::tempdir()?;
    let mut cluster = NatsServer::start_cluster(folder.path(), Sync::Always, &[]).await?;
    ContractClient::open(&cluster).await?;
    cluster.synced().await?;
    let leader = cluster.stream_leader(CALLS).await?;
    let one = ContractClient::open_at(&cluster, leader).await?;
    let other = ContractClient::open_at(&cluster, leader).await?.facts;

    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(Ringing::begin(&one).await?);
    }
    let unchanged = |call: &Ringing| PublishCondition::CallUnchangedSince(call.sequence);
    let pairs = [
        (
            (calls[0].ended(EndReason::MediaTimeout), PublishCondition::OnceWhileOpen),
            (calls[0].accepted(), unchanged(&calls[0])),
        ),
        (
            (calls[1].accepted(), unchanged(&calls[1])),
            (calls[1].ended(EndReason::MediaTimeout), unchanged(&calls[1])),
        ),
        (
            (calls[2].ended(EndReason::WorkerLost), PublishCondition::OnceWhileOpen),
            (calls[2].ended(EndReason::NoAnswer), unchanged(&calls[2])),
        ),
        (
            (calls[3].ended(EndReason::WorkerLost), PublishCondition::OnceWhileOpen),
            (calls[3].connected(), PublishCondition::OnceWhileOpen),
        ),
    ];

    let followers: Vec<usize> = (0..cluster.nodes()).filter(|node| *node != leader).collect();
    for follower in &followers {
        cluster.freeze_node(*follower)?;
    }
    let publish = |facts: FactStore, (fact, condition): (Fact, PublishCondition)| {
        tokio::spawn(async move { facts.publish(&fact, condition, TraceParent::generate()).await })
    };
    let mut in_flight = Vec::new();
    let (firsts, seconds): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
    in_flight.extend(firsts.into_iter().map(|it| publish(one.facts.clone(), it)));
    let_time_pass("the first publications reach the leader", REACHES_LEADER).await;
    in_flight.extend(seconds.into_iter().map(|it| publish(other.clone(), it)));
    stays("one server of three acknowledges nothing", REACHES_LEADER, async || {
        ensure!(in_flight.iter().all(|it| !it.is_finished()));
        Ok(())
    })
    .await?;
    for follower in &followers {
        cluster.resume_node(*follower)?;
    }

    let mut outcomes = Vec::new();
    for publication in in_flight {
        outcomes.push(timeout(SOON, publication).await???);
    }
    let (firsts, seconds) = outcomes.split_at(pairs.len());
    for (pair, outcomes) in pairs.iter().zip(firsts.iter().zip(seconds)) {
        let is_stored = |outcome: &Outcome| outcome.sequence().is_some();
        ensure!(is_stored(outcomes.0) != is_stored(outcomes.1), "{pair:?}: {outcomes:?}");
    }
    Ok(())
}
