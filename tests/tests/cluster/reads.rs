//! Acknowledged writes are visible through every server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use contract::buckets::active_calls::{ActiveCall, ActiveCalls, ClaimError};
use contract::jetstream::storage::ACTIVE_CALLS;
use contract::samples::parties;
use contract::{CallId, Parties, Timestamp, TraceParent};
use futures::future::{join_all, try_join_all};

use crate::fixture::cluster_permit;

/// Enough to read from a lagging replica, if replicas may answer: about one read in ten.
const ROUNDS: usize = 60;

#[tokio::test]
async fn lock_writes_are_visible_through_a_follower() -> Result<()> {
    let _permit = cluster_permit().await?;
    let folder = tempfile::tempdir()?;
    let cluster = NatsServer::start_cluster(folder.path(), Sync::Always, &[]).await?;
    let (_, active) = connected_to(&cluster, 0).await?;
    drop(active);
    cluster.synced().await?;
    let leader = cluster.stream_leader(&format!("KV_{ACTIVE_CALLS}")).await?;
    let (_client, active) = connected_to(&cluster, (leader + 1) % cluster.nodes()).await?;
    for round in 0..ROUNDS {
        let call = ringing()?;
        active.claim(&call).await.with_context(|| format!("claim {round}"))?;
        let again = ActiveCall {
            parties: Parties {
                call_id: CallId::generate(),
                ..call.parties.clone()
            },
            ..call.clone()
        };
        ensure!(
            matches!(active.claim(&again).await, Err(ClaimError::Busy(_))),
            "claimed twice"
        );
        active.release(&call.parties).await?;
        // Both parties are free immediately, also from the failed claim.
        active
            .claim(&again)
            .await
            .with_context(|| format!("claim {round} again"))?;
        active.release(&again.parties).await?;
        ensure!(
            active.get(&again.parties.call_id).await?.is_none(),
            "still there after the release"
        );
    }
    Ok(())
}

#[tokio::test]
async fn of_concurrent_claims_at_most_one_succeeds_and_the_others_are_busy() -> Result<()> {
    let _permit = cluster_permit().await?;
    let folder = tempfile::tempdir()?;
    let cluster = NatsServer::start_cluster(folder.path(), Sync::Always, &[]).await?;
    let mut connections = Vec::new();
    for node in 0..cluster.nodes() {
        connections.push(connected_to(&cluster, node).await?);
    }
    cluster.synced().await?;
    for round in 0..ROUNDS {
        let first = ringing()?;
        let rivals = connections.iter().map(|(_, active)| {
            let call = ActiveCall {
                parties: Parties {
                    call_id: CallId::generate(),
                    ..first.parties.clone()
                },
                ..first.clone()
            };
            async move { (active.claim(&call).await, call) }
        });
        let mut granted = 0;
        for (outcome, call) in join_all(rivals).await {
            match outcome {
                Ok(_) => granted += 1,
                Err(ClaimError::Busy(_)) => {}
                Err(error) => return Err(error).with_context(|| format!("round {round}")),
            }
            // Every edge that reads the end releases both parties, concurrently.
            try_join_all(connections.iter().map(|(_, active)| active.release(&call.parties)))
                .await
                .with_context(|| format!("releasing in round {round}"))?;
        }
        ensure!(granted <= 1, "{granted} claims on the same parties");
    }
    Ok(())
}

async fn connected_to(cluster: &NatsServer, node: usize) -> Result<(ContractClient, ActiveCalls)> {
    let client = ContractClient::open_at(cluster, node).await?;
    let active = ActiveCalls::new(&client.storage, client.facts.clone());
    Ok((client, active))
}

fn ringing() -> Result<ActiveCall> {
    Ok(ActiveCall {
        parties: parties(CallId::generate().as_str()),
        requested_at: Timestamp::now(),
        ring_deadline: Timestamp::now().plus(Duration::from_secs(30)),
        node_id: "edge".parse()?,
        traceparent: TraceParent::generate(),
        accepted: None,
    })
}
