//! The buckets: compare-and-set, markers, expiry.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use contract::buckets::active_calls::{ActiveCall, ActiveCalls, CallChange, ClaimError};
use contract::buckets::billing_active::{ActiveBilling, BillingChange, BillingEntry};
use contract::buckets::last_heartbeats::LastHeartbeats;
use contract::buckets::media_workers::{MediaWorkers, WorkerChange, WorkerStatus};
use contract::jetstream::batch::MAX_BATCH;
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::fact_store::PublishCondition;
use contract::jetstream::storage::WORKER_TTL;
use contract::samples::{at, parties};
use contract::wire::fact::EndReason;
use contract::{CallId, Parties, Party, Role, TraceParent};
use futures::{Stream, StreamExt};
use tokio::time::{Instant, timeout};

use crate::fixture::{Fixture, SOON, ended};

fn billing(call: &str, connected: Option<i64>) -> BillingEntry {
    BillingEntry {
        parties: parties(call),
        connected_at: connected.map(at),
        started_at: None,
        interval_ms: None,
        end: None,
        traceparent: TraceParent::generate(),
    }
}

fn active(call: &str, user: &str, otomo: &str) -> ActiveCall {
    ActiveCall {
        parties: Parties {
            call_id: call.parse().unwrap(),
            user_id: user.parse().unwrap(),
            otomo_id: otomo.parse().unwrap(),
        },
        node_id: "edge".parse().unwrap(),
        requested_at: at(0),
        ring_deadline: at(30_000),
        accepted: None,
        traceparent: TraceParent::generate(),
    }
}

async fn next<T>(changes: &mut (impl Stream<Item = Result<T, BucketError>> + Unpin)) -> Result<T> {
    Ok(timeout(SOON, changes.next()).await?.context("the watch ended")??)
}

#[tokio::test]
async fn billing_active_entries_are_merged_watched_and_removed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let active_billing = ActiveBilling::new(&fixture.nats, &fixture.storage);
    let before = billing("before", None);
    active_billing
        .upsert(&"before".parse()?, |_| Some(before.clone()))
        .await?;
    let mut changes = Box::pin(active_billing.watch().await?);
    ensure!(matches!(next(&mut changes).await?, BillingChange::Open(entry) if entry.value == before));

    let call: CallId = "c".parse()?;
    let entry = billing("c", None);
    active_billing
        .upsert(&call, |found| found.or_else(|| Some(entry.clone())))
        .await?;
    let BillingChange::Open(opened) = next(&mut changes).await? else {
        anyhow::bail!("not open")
    };
    active_billing
        .upsert(&call, |found| {
            Some(BillingEntry {
                connected_at: Some(at(5)),
                ..found?
            })
        })
        .await?;
    let BillingChange::Open(changed) = next(&mut changes).await? else {
        anyhow::bail!("not open")
    };
    ensure!(changed.value.connected_at == Some(at(5)) && changed.revision > opened.revision);

    // A change without effect is not written.
    active_billing.upsert(&call, |found| found).await?;
    ensure!(active_billing.get(&call).await?.context("gone")?.revision == changed.revision);

    ensure!(matches!(
        active_billing.remove(&call, opened.revision).await,
        Err(BucketError::Conflict { .. })
    ));
    active_billing.remove(&call, changed.revision).await?;
    ensure!(next(&mut changes).await? == BillingChange::Closed(call.clone()));
    ensure!(active_billing.get(&call).await?.is_none());
    // A watcher that starts later receives the marker.
    let mut later = Box::pin(active_billing.watch().await?);
    let received = [next(&mut later).await?, next(&mut later).await?];
    ensure!(received.contains(&BillingChange::Closed(call.clone())), "{received:?}");
    ensure!(matches!(
        active_billing.remove(&call, changed.revision).await,
        Err(BucketError::Conflict { .. })
    ));

    // A removed key can be written again.
    active_billing
        .upsert(&call, |found| found.or_else(|| Some(entry.clone())))
        .await?;
    ensure!(matches!(next(&mut changes).await?, BillingChange::Open(entry) if entry.value.connected_at.is_none()));
    Ok(())
}

#[tokio::test]
async fn many_entries_are_read_and_written_together() -> Result<()> {
    // As the service that does it: with its rights.
    let fixture = Fixture::start().await?;
    let service = ContractClient::open_with_rights_of(&fixture.server, "billing-timer").await?;
    let active_billing = ActiveBilling::new(&service.nats, &service.storage);
    let calls: Vec<CallId> = (0..MAX_BATCH)
        .map(|n| format!("c{n}").parse())
        .collect::<Result<_, _>>()?;
    ensure!(active_billing.get_many(&calls).await?.is_empty());
    let new = |call: &CallId, revision| Revised {
        value: billing(call.as_str(), None),
        revision,
    };
    active_billing
        .write_many(&calls.iter().map(|call| new(call, 0)).collect::<Vec<_>>())
        .await?;
    let found = active_billing.get_many(&calls).await?;
    ensure!(found.len() == MAX_BATCH && found[&calls[7]].value.is_some());

    // One stale revision rejects all.
    let [one, two] = [0, 1].map(|index| found[&calls[index]].revision);
    let refused = active_billing
        .write_many(&[new(&calls[0], one), new(&calls[1], one)])
        .await;
    ensure!(matches!(refused, Err(BucketError::Conflict { .. })), "{refused:?}");
    ensure!(active_billing.get(&calls[0]).await?.context("gone")?.revision == one);

    // A removed entry has the revision of its marker.
    active_billing.remove(&calls[1], two).await?;
    let removed = active_billing
        .get_many(&calls[1..2])
        .await?
        .remove(&calls[1])
        .context("no marker")?;
    ensure!(removed.value.is_none() && removed.revision > two, "{removed:?}");
    active_billing.write_many(&[new(&calls[1], removed.revision)]).await?;
    ensure!(active_billing.get(&calls[1]).await?.is_some());

    // Many are removed together, each at its revision, and a watcher that starts later receives their markers.
    let stale = active_billing.remove_many(&[(&calls[2], one), (&calls[0], one)]).await;
    ensure!(matches!(stale, Err(BucketError::Conflict { .. })), "{stale:?}");
    let open: Vec<(&CallId, u64)> = (calls.iter().enumerate())
        .filter(|(number, _)| *number != 1)
        .map(|(_, call)| (call, found[call].revision))
        .collect();
    active_billing.remove_many(&open).await?;
    let mut changes = Box::pin(active_billing.watch().await?);
    let mut closed = 0;
    while closed < open.len() {
        match next(&mut changes).await? {
            BillingChange::Closed(_) => closed += 1,
            BillingChange::Open(entry) => ensure!(entry.value.parties.call_id == calls[1], "{entry:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn concurrent_changes_of_one_entry_are_all_kept() -> Result<()> {
    let fixture = Fixture::start().await?;
    let active_billing = ActiveBilling::new(&fixture.nats, &fixture.storage);
    let call: CallId = "c".parse()?;
    let change = |found: Option<BillingEntry>| {
        let entry = found.unwrap_or_else(|| billing("c", Some(0)));
        let connected_at = entry.connected_at.map(|connected_at| connected_at.plus_millis(1));
        Some(BillingEntry { connected_at, ..entry })
    };
    let changes = (0..5).map(|_| active_billing.upsert(&call, change));
    futures::future::try_join_all(changes).await?;
    let entry = active_billing.get(&call).await?.context("gone")?;
    ensure!(entry.value.connected_at == Some(at(5)), "{entry:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_continues_after_a_restart_of_the_server_or_reports_its_loss() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let active_billing = ActiveBilling::new(&fixture.nats, &fixture.storage);
    let mut changes = Box::pin(active_billing.watch().await?);
    fixture.server.kill()?;
    fixture.server.restart().await?;
    fixture.nats.connected().await;
    let entry = billing("c", None);
    callpulse_tests::wait::eventually("a write", SOON, async || {
        Ok(active_billing
            .upsert(&"c".parse()?, |found| found.or_else(|| Some(entry.clone())))
            .await?)
    })
    .await?;
    let change = loop {
        match timeout(SOON, changes.next()).await? {
            Some(Ok(change)) => break change,
            Some(Err(BucketError::Unavailable { .. })) | None => changes = Box::pin(active_billing.watch().await?),
            Some(Err(error)) => return Err(error.into()),
        }
    };
    ensure!(matches!(change, BillingChange::Open(opened) if opened.value == entry));
    Ok(())
}

#[tokio::test]
async fn a_worker_without_heartbeats_expires() -> Result<()> {
    let fixture = Fixture::start().await?;
    let fleet = MediaWorkers::new(&fixture.storage);
    let status = |worker: &str, calls| WorkerStatus {
        worker_id: worker.parse().unwrap(),
        calls,
        capacity: 10,
        draining: false,
        cordoned: false,
        at: at(0),
        started_at: at(0),
        wall: None,
        stored_at: None,
    };
    let is_alive = |change: &WorkerChange, worker: &str, calls| {
        let WorkerChange::Alive(seen) = change else {
            return false;
        };
        (seen.worker_id.as_str(), seen.calls) == (worker, calls) && seen.stored_at.is_some()
    };
    let mut changes = Box::pin(fleet.watch().await?);
    fleet.claim(&status("silent", 1)).await?;
    let beaten = Instant::now();
    ensure!(is_alive(&next(&mut changes).await?, "silent", 1));
    ensure!(
        next(&mut changes).await? == WorkerChange::Gone("silent".parse()?),
        "a marker tells"
    );
    let silence = beaten.elapsed();
    ensure!(
        silence >= WORKER_TTL - Duration::from_millis(500),
        "gone after {silence:?}"
    );

    let revision = fleet.claim(&status("leaver", 0)).await?;
    ensure!(is_alive(&next(&mut changes).await?, "leaver", 0));
    let twice = fleet.claim(&status("leaver", 7)).await;
    ensure!(matches!(twice, Err(BucketError::Conflict { .. })), "{twice:?}");
    fleet.renew(&status("leaver", 1), revision).await?;
    ensure!(is_alive(&next(&mut changes).await?, "leaver", 1));
    let stale = fleet.renew(&status("leaver", 7), revision).await;
    ensure!(matches!(stale, Err(BucketError::Conflict { .. })), "{stale:?}");
    fleet.withdraw(&"leaver".parse()?, at(1)).await?;
    ensure!(
        fleet.entry(&"leaver".parse()?).await?.is_some(),
        "another process withdraws nothing"
    );
    fleet.withdraw(&"leaver".parse()?, at(0)).await?;
    ensure!(next(&mut changes).await? == WorkerChange::Gone("leaver".parse()?));
    fleet
        .withdraw(&"leaver".parse()?, at(0))
        .await
        .context("harmless when repeated")?;
    // Its last heartbeat outlives the entry.
    let last_heartbeats = LastHeartbeats::new(&fixture.nats, &fixture.storage);
    for calls in [1, 5] {
        last_heartbeats.put(&status("silent", calls)).await?;
    }
    let last = last_heartbeats.of(&"silent".parse()?, at(0)).await?;
    let last = last.context("no heartbeat")?;
    ensure!(last.calls == 5 && last.stored_at.is_some(), "{last:?}");
    let of_another_process = last_heartbeats.of(&"silent".parse()?, at(1)).await?;
    ensure!(of_another_process.is_none(), "{of_another_process:?}");
    // An expired worker may return, and its markers expire.
    fleet.claim(&status("silent", 2)).await?;
    ensure!(is_alive(&next(&mut changes).await?, "silent", 2));
    Ok(())
}

#[tokio::test]
async fn a_party_in_a_call_is_busy_until_the_call_is_released() -> Result<()> {
    let fixture = Fixture::start().await?;
    let calls = ActiveCalls::new(&fixture.storage, fixture.facts.clone());
    let mut changes = Box::pin(calls.watch().await?);
    let first = active("c1", "u1", "o1");
    let revision = calls.claim(&first).await?;
    ensure!(
        matches!(next(&mut changes).await?, CallChange::Active(call) if call.value == first && call.revision == revision)
    );

    let busy = calls.claim(&active("c2", "u1", "o2")).await;
    ensure!(matches!(busy, Err(ClaimError::Busy(Role::User))), "{busy:?}");
    let busy = calls.claim(&active("c3", "u2", "o1")).await;
    ensure!(matches!(busy, Err(ClaimError::Busy(Role::Otomo))), "{busy:?}");
    for party in [Party::User("u2".parse()?), Party::Otomo("o2".parse()?)] {
        ensure!(
            calls.of_party(&party).await?.is_none(),
            "a refused claim leaves nothing behind"
        );
    }
    for party in [Party::User("u1".parse()?), Party::Otomo("o1".parse()?)] {
        ensure!(calls.of_party(&party).await?.context("not in a call")?.value == first);
    }

    calls.release(&first.parties).await?;
    calls.release(&first.parties).await.context("harmless when repeated")?;
    calls.claim(&active("c4", "u1", "o1")).await?;
    let gone = async {
        loop {
            if next(&mut changes).await? == CallChange::Gone("c1".parse()?) {
                return anyhow::Ok(());
            }
        }
    };
    timeout(SOON, gone).await?
}

#[tokio::test]
async fn the_lock_of_a_call_that_has_ended_is_taken_over() -> Result<()> {
    let fixture = Fixture::start().await?;
    let calls = ActiveCalls::new(&fixture.storage, fixture.facts.clone());
    // The service that ended the call died before the release.
    calls.claim(&active("old", "u", "o")).await?;
    fixture
        .facts
        .publish(
            &ended("old", EndReason::Hangup).into(),
            PublishCondition::First,
            TraceParent::generate(),
        )
        .await?;
    let new = active("new", "u", "o");
    calls.claim(&new).await?;
    let party = Party::Otomo("o".parse()?);
    ensure!(calls.of_party(&party).await?.context("not in a call")?.value == new);
    // A late release of the old call keeps the locks of the new one.
    calls.release(&active("old", "u", "o").parties).await?;
    ensure!(calls.of_party(&party).await?.context("not in a call")?.value == new);
    ensure!(calls.get(&"old".parse()?).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_lock_written_after_its_claim_failed_blocks_no_party() -> Result<()> {
    let fixture = Fixture::start().await?;
    let calls = ActiveCalls::new(&fixture.storage, fixture.facts.clone());
    let late = active("late", "u1", "o1");
    calls.claim(&late).await?;
    // The claimer releases the call while its own write is in flight.
    let entry = format!("call.{}", late.parties.call_id);
    fixture.storage.active_calls.purge(entry).await?;
    let again = active("again", "u1", "o1");
    calls.claim(&again).await?;
    ensure!(calls.get(&again.parties.call_id).await?.is_some());
    // The release of the late call does not affect it.
    calls.release(&late.parties).await?;
    let active = calls.of_party(&again.parties.party(contract::Role::User)).await?;
    ensure!(active.is_some_and(|active| active.value.parties == again.parties));
    Ok(())
}

#[tokio::test]
async fn entries_that_cannot_be_read_are_replaced_and_block_no_party() -> Result<()> {
    let fixture = Fixture::start().await?;
    let calls = ActiveCalls::new(&fixture.storage, fixture.facts.clone());
    let user = Party::User("u".parse()?);
    for (number, garbage) in ["not JSON", "[]", "null", r#"{"callId":7}"#].into_iter().enumerate() {
        for key in ["user.u", "otomo.o"] {
            fixture.storage.active_calls.put(key, garbage.into()).await?;
        }
        ensure!(calls.of_party(&user).await?.is_none(), "{garbage}");
        let call = active(&format!("c{number}"), "u", "o");
        calls.claim(&call).await?;
        ensure!(calls.of_party(&user).await?.is_some(), "{garbage}");
        // The lock of a call without a readable entry is stale.
        let entry = format!("call.c{number}");
        fixture.storage.active_calls.put(&entry, garbage.into()).await?;
        ensure!(calls.of_party(&user).await?.is_none(), "{garbage}");
        let next = active(&format!("next{number}"), "u", "o");
        calls.claim(&next).await?;
        calls.release(&call.parties).await?;
        ensure!(fixture.storage.active_calls.get(&entry).await?.is_none(), "{garbage}");
        calls.release(&next.parties).await?;
    }

    let active_billing = ActiveBilling::new(&fixture.nats, &fixture.storage);
    for garbage in ["not JSON", "[]"] {
        for name in ["one", "many"] {
            fixture.storage.billing_active.put(name, garbage.into()).await?;
        }
        let (one, many): (CallId, CallId) = ("one".parse()?, "many".parse()?);
        active_billing
            .upsert(&one, |found| found.is_none().then(|| billing("one", None)))
            .await?;
        ensure!(active_billing.get(&one).await?.is_some(), "{garbage}");
        let found = active_billing.get_many(&[one, many.clone()]).await?;
        let entry = &found[&many];
        ensure!(entry.value.is_none(), "{entry:?}");
        let (value, revision) = (billing("many", None), entry.revision);
        active_billing.write_many(&[Revised { value, revision }]).await?;
        ensure!(active_billing.get(&many).await?.is_some(), "{garbage}");
    }
    Ok(())
}

#[tokio::test]
async fn at_most_one_of_two_claims_on_a_party_succeeds() -> Result<()> {
    let fixture = Fixture::start().await?;
    let calls = ActiveCalls::new(&fixture.storage, fixture.facts.clone());
    for round in 0..20 {
        let otomo = format!("o{round}");
        let (one, two) = (
            active(&format!("a{round}"), "ua", &otomo),
            active(&format!("b{round}"), "ub", &otomo),
        );
        let (first, second) = tokio::join!(calls.claim(&one), calls.claim(&two));
        ensure!(first.is_ok() != second.is_ok(), "{first:?} and {second:?}");
        calls.release(&one.parties).await?;
        calls.release(&two.parties).await?;
    }
    Ok(())
}
