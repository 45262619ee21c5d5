//! What a leader has taken and the others have not: for as long as it waits for them, it has to refuse what contradicts that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::nats_server::{NatsServer, Sync};
use contract::jetstream::storage::CALLS;
use contract::wire::fact::{Accepted, Ended, Method, Requested, RtpDetected};
use contract::{
    CallId, EndReason, Fact, FactStore, Outcome, Parties, PublishCondition, Role, Source, Timestamp, TraceParent,
};
use tokio::time::{sleep, timeout};

use crate::scene::{SOON, open, turn};

/// Until the first of two is under way for certain; both together are shorter than the patience of a follower.
const A_MOMENT: Duration = Duration::from_millis(500);

/// A call that rings, and two processes that know nothing of each other.
struct Ringing {
    parties: Parties,
    sequence: u64,
}

impl Ringing {
    async fn begin(facts: &FactStore) -> Result<Self> {
        let parties = Parties {
            call_id: CallId::generate(),
            user_id: "u".parse()?,
            otomo_id: "o".parse()?,
        };
        let requested = Requested {
            parties: parties.clone(),
            requested_at: Timestamp::now(),
        };
        let outcome = facts
            .publish(&requested.into(), PublishCondition::First, TraceParent::generate())
            .await?;
        let sequence = outcome.sequence().context("not stored")?;
        Ok(Self { parties, sequence })
    }

    fn ended(&self, reason: EndReason) -> Fact {
        Ended {
            parties: self.parties.clone(),
            ended_at: Timestamp::now(),
            reason,
            by: "test".to_owned(),
            connected_at: None,
        }
        .into()
    }

    fn accepted(&self) -> Result<Fact> {
        Ok(Accepted {
            parties: self.parties.clone(),
            accepted_at: Timestamp::now(),
            worker_id: "mw".parse()?,
        }
        .into())
    }

    fn connected(&self) -> Result<Fact> {
        Ok(RtpDetected {
            parties: self.parties.clone(),
            connected_at: Timestamp::now(),
            method: Method::SfuRtpDetected,
            detected_from: Role::User,
            worker_id: "mw".parse()?,
            producer_id: "p".to_owned(),
            ssrc: 1,
        }
        .into())
    }
}

#[tokio::test]
async fn of_two_facts_that_exclude_each_other_one_is_stored_though_both_are_under_way() -> Result<()> {
    let _turn = turn().await?;
    let folder = tempfile::tempdir()?;
    let mut cluster = NatsServer::start_cluster(folder.path(), Sync::Always, &[]).await?;
    open(&cluster, 0).await?;
    cluster.settled().await?;
    let leader = cluster.stream_leader(CALLS).await?;
    let ((one, its_storage), (other, others_storage)) = (open(&cluster, leader).await?, open(&cluster, leader).await?);
    let one = FactStore::new(&one, &its_storage, Source::new("test", "one"));
    let other = FactStore::new(&other, &others_storage, Source::new("test", "other"));

    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(Ringing::begin(&one).await?);
    }
    let unchanged = |call: &Ringing| PublishCondition::CallUnchangedSince(call.sequence);
    let pairs = [
        (
            (calls[0].ended(EndReason::MediaTimeout), PublishCondition::OnceWhileOpen),
            (calls[0].accepted()?, unchanged(&calls[0])),
        ),
        (
            (calls[1].accepted()?, unchanged(&calls[1])),
            (calls[1].ended(EndReason::MediaTimeout), unchanged(&calls[1])),
        ),
        (
            (calls[2].ended(EndReason::WorkerLost), PublishCondition::OnceWhileOpen),
            (calls[2].ended(EndReason::NoAnswer), unchanged(&calls[2])),
        ),
        (
            (calls[3].ended(EndReason::WorkerLost), PublishCondition::OnceWhileOpen),
            (calls[3].connected()?, PublishCondition::OnceWhileOpen),
        ),
    ];

    let followers: Vec<usize> = (0..cluster.nodes()).filter(|node| *node != leader).collect();
    for follower in &followers {
        cluster.freeze_node(*follower)?;
    }
    let publish = |facts: FactStore, (fact, guard): (Fact, PublishCondition)| {
        tokio::spawn(async move { facts.publish(&fact, guard, TraceParent::generate()).await })
    };
    let mut under_way = Vec::new();
    let (firsts, seconds): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
    under_way.extend(firsts.into_iter().map(|it| publish(one.clone(), it)));
    sleep(A_MOMENT).await;
    under_way.extend(seconds.into_iter().map(|it| publish(other.clone(), it)));
    sleep(A_MOMENT).await;
    ensure!(
        under_way.iter().all(|it| !it.is_finished()),
        "stored by one server of three"
    );
    for follower in &followers {
        cluster.thaw_node(*follower)?;
    }

    let mut outcomes = Vec::new();
    for publication in under_way {
        outcomes.push(timeout(SOON, publication).await???);
    }
    let (firsts, seconds) = outcomes.split_at(pairs.len());
    for (pair, outcomes) in pairs.iter().zip(firsts.iter().zip(seconds)) {
        let is_stored = |outcome: &Outcome| outcome.sequence().is_some();
        ensure!(is_stored(outcomes.0) != is_stored(outcomes.1), "{pair:?}: {outcomes:?}");
    }
    Ok(())
}
