use std::time::Duration;

use anyhow::ensure;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::servers::process::Service;
use callpulse_tests::wait::{eventually, let_time_pass};
use contract::buckets::media_workers::{MediaWorkers, WorkerChange, WorkerStatus};
use contract::jetstream::request::RefusalCode;
use contract::samples::new_parties;
use contract::wire::command::{Cordon, CordonState, OpenCall, Uncordon};
use contract::{PublishCondition, Role, TraceParent};
use futures::StreamExt;

use crate::fixture::{Fixture, SOON, code, relayed, requester, worker_lost};

/// About the time for which a cluster stores nothing after the loss of a leader.
const ELECTION: Duration = Duration::from_secs(8);

/// Waits for a change.
async fn change(
    changes: &mut (impl futures::Stream<Item = WorkerChange> + Unpin),
    fits: impl Fn(&WorkerChange) -> bool,
) {
    let found = tokio::time::timeout(SOON, changes.by_ref().any(|change| std::future::ready(fits(&change)))).await;
    assert_eq!(found, Ok(true), "no such change of the fleet");
}

/// Waits for an entry of the worker.
async fn alive(
    changes: &mut (impl futures::Stream<Item = WorkerChange> + Unpin),
    fits: impl Fn(&WorkerStatus) -> bool,
) {
    change(changes, |change| matches!(change, WorkerChange::Alive(it) if fits(it))).await;
}

async fn watch(fixture: &Fixture) -> impl futures::Stream<Item = WorkerChange> + Unpin + use<> {
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    let changes = MediaWorkers::new(&client.storage).watch().await.unwrap();
    changes.map(Result::unwrap).boxed()
}

fn is_gone(change: &WorkerChange) -> bool {
    matches!(change, WorkerChange::Gone(worker) if worker.as_str() == "mw-1")
}

#[tokio::test]
async fn a_worker_publishes_its_load_and_its_entry_expires_after_its_death() {
    let mut fixture = Fixture::start(&[("capacity", "7"), ("heartbeat_interval_ms", "200")]).await;
    let mut changes = watch(&fixture).await;
    let parties = fixture.call().await;
    alive(&mut changes, |it| it.calls == 1 && it.capacity == 7 && !it.draining).await;
    fixture.hang_up(&parties).await.unwrap();
    alive(&mut changes, |it| it.calls == 0).await;
    fixture.worker.kill().unwrap();
    change(&mut changes, is_gone).await;
}

#[tokio::test]
async fn a_draining_worker_refuses_calls_ends_the_rest_and_removes_its_entry() {
    let mut fixture = Fixture::start(&[("drain_timeout_ms", "4000")]).await;
    let mut changes = watch(&fixture).await;
    let (connected, silent) = (fixture.call().await, fixture.call().await);
    let speaker = fixture.join(&requester(&connected, Role::User)).await;
    let notices = fixture.notices(&silent.party(Role::User)).await;
    speaker.talk().await;
    fixture.fact(&connected, "rtp_detected").await;

    fixture.worker.child_mut().send_sigterm().unwrap();
    alive(&mut changes, |it| it.draining).await;
    let refused = code(fixture.ask(&OpenCall::new(new_parties())).await);
    assert_eq!(refused, RefusalCode::Draining);
    assert!(fixture.worker.child_mut().until_ended(SOON).await.unwrap().success());
    change(&mut changes, is_gone).await;
    for (parties, facts) in [(&connected, &["rtp_detected", "ended"][..]), (&silent, &["ended"])] {
        assert_eq!(fixture.stored(parties).await, facts);
        let ended = fixture.fact(parties, "ended").await;
        assert_eq!(
            (&ended.payload["reason"], &ended.payload["by"]),
            (&"worker_shutdown".into(), &"mw-1".into())
        );
    }
    assert_eq!(notices.expect("call_ended").await["reason"], "worker_shutdown");
}

#[tokio::test]
async fn a_draining_worker_waits_for_nats_as_long_as_an_election_takes() {
    let mut fixture = Fixture::start(&[("drain_timeout_ms", "18000")]).await;
    let parties = fixture.call().await;
    fixture.nats.kill().unwrap();
    fixture.worker.child_mut().send_sigterm().unwrap();
    eventually("the call that is left is ended", SOON, async || {
        let log = fixture.worker.child().log_tail();
        ensure!(log.contains("ending the remaining calls"), "{log}");
        Ok(())
    })
    .await
    .unwrap();
    let_time_pass("as long as an election takes", ELECTION).await;
    fixture.nats.restart().await.unwrap();
    let status = fixture.worker.child_mut().until_ended(SOON).await.unwrap();
    assert!(status.success());
    let ended = fixture.fact(&parties, "ended").await;
    assert_eq!(ended.payload["reason"], "worker_shutdown");
}

#[tokio::test]
async fn a_draining_worker_lets_its_calls_end() {
    let mut fixture = Fixture::start(&[("drain_timeout_ms", "60000")]).await;
    let mut changes = watch(&fixture).await;
    let parties = fixture.call().await;
    fixture.worker.child_mut().send_sigterm().unwrap();
    alive(&mut changes, |it| it.draining).await;
    fixture.hang_up(&parties).await.unwrap();
    let status = fixture.worker.child_mut().until_ended(SOON).await.unwrap();
    assert!(status.success(), "before the drain timeout");
    let ended = fixture.fact(&parties, "ended").await;
    assert_eq!(ended.payload["reason"], "hangup");
}

#[tokio::test]
async fn a_cordoned_worker_keeps_its_calls_refuses_others_and_forgets_it_at_a_restart() {
    // Only a cordon announces itself so soon.
    let mut fixture = Fixture::start(&[("heartbeat_interval_ms", "3000")]).await;
    let mut changes = watch(&fixture).await;
    let parties = fixture.call().await;
    for _ in 0..2 {
        let state = fixture.ask(&Cordon {}).await.unwrap();
        assert_eq!(
            state,
            CordonState {
                cordoned: true,
                calls: 1
            }
        );
    }
    alive(&mut changes, |it| it.cordoned && !it.draining && it.calls == 1).await;
    let refused = code(fixture.ask(&OpenCall::new(new_parties())).await);
    assert_eq!(refused, RefusalCode::Draining);
    let speaker = fixture.join(&requester(&parties, Role::User)).await;
    speaker.talk().await;
    fixture.fact(&parties, "rtp_detected").await;

    assert!(!fixture.ask(&Uncordon {}).await.unwrap().cordoned);
    alive(&mut changes, |it| !it.cordoned).await;
    fixture.call().await;

    fixture.ask(&Cordon {}).await.unwrap();
    fixture.worker.restart().await.unwrap();
    fixture.worker.ready().await.unwrap();
    fixture.call().await;
}

#[tokio::test]
async fn calls_that_others_ended_during_a_freeze_are_released() {
    let fixture = Fixture::start(&[("heartbeat_interval_ms", "500")]).await;
    let mut changes = watch(&fixture).await;
    let (lost, kept) = (fixture.call().await, fixture.call().await);
    fixture.worker.freeze().unwrap();
    change(&mut changes, is_gone).await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    client
        .publish(worker_lost(&lost), PublishCondition::First)
        .await
        .unwrap();
    fixture.worker.resume().unwrap();
    eventually("the lost call is released", SOON, async || {
        let ask = relayed(
            &requester(&lost, Role::User),
            contract::wire::request::RtcCapabilities {},
        );
        let answer = contract::jetstream::request::ask(
            fixture.client(),
            &fixture.worker_id,
            &ask,
            TraceParent::generate(),
            Duration::from_secs(5),
        );
        ensure!(answer.await.is_err(), "it is still there");
        Ok(())
    })
    .await
    .unwrap();
    fixture.capabilities(&requester(&kept, Role::User)).await;
}

#[tokio::test]
async fn a_worker_without_nats_starts_unready_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    // Bound, but never accepts.
    let unresponsive = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", unresponsive.local_addr().unwrap());
    let settings = [("nats.url", url.as_str()), ("ops.listen", "127.0.0.1:0")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let mut worker = Service::start("media-worker", "media-worker", settings, folder.path())
        .await
        .unwrap();
    assert_ne!(worker.address("rtc").unwrap().port(), 0);
    let (status, body) = worker.ops("/readyz").await.unwrap();
    let readiness: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &readiness["conditions"]["sfu"]), (503, &true.into()));
    assert_eq!(
        (&readiness["conditions"]["nats"], &readiness["conditions"]["streams"]),
        (&false.into(), &false.into())
    );
    assert!(worker.terminate(SOON).await.unwrap().success());
}

#[tokio::test]
async fn facts_that_cannot_be_stored_do_not_delay_the_stop_and_are_logged() {
    let mut fixture = Fixture::start(&[("drain_timeout_ms", "2000")]).await;
    let parties = fixture.call().await;
    let speaker = fixture.join(&requester(&parties, Role::User)).await;
    fixture.nats.kill().unwrap();
    speaker.talk().await;
    fixture.worker.terminate(SOON).await.unwrap();
    let log = fixture.worker.child().log_tail();
    assert!(log.contains("facts lost with this process"), "{log}");
}

/// Another process with the ID of the fixture's worker.
async fn rival(fixture: &Fixture, folder: &std::path::Path) -> Service {
    let settings = fixture.nats.settings_of("media-worker").unwrap().into_iter();
    let settings = settings.chain([
        ("ops.listen", "127.0.0.1:0".to_owned()),
        ("worker_id", "mw-1".to_owned()),
    ]);
    let settings = settings.map(|(key, value)| (key.to_owned(), value)).collect();
    Service::start("media-worker", "rival", settings, folder).await.unwrap()
}

#[tokio::test]
async fn a_second_worker_with_the_same_id_does_not_start() {
    let mut fixture = Fixture::start(&[("heartbeat_interval_ms", "500")]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut rival = rival(&fixture, folder.path()).await;
    let parties = fixture.call().await;
    let status = rival.child_mut().until_ended(SOON).await.unwrap();
    let log = rival.child().log_tail();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("worker_id mw-1 is used by another media-worker"), "{log}");
    fixture.capabilities(&requester(&parties, Role::User)).await;
    fixture.assert_alive().await;
}

#[tokio::test]
async fn a_worker_whose_id_was_taken_meanwhile_ends_its_calls_and_stops() {
    let mut fixture = Fixture::start(&[("heartbeat_interval_ms", "500")]).await;
    let mut changes = watch(&fixture).await;
    let parties = fixture.call().await;
    let speaker = fixture.join(&requester(&parties, Role::User)).await;
    speaker.talk().await;
    fixture.fact(&parties, "rtp_detected").await;
    fixture.worker.freeze().unwrap();
    change(&mut changes, is_gone).await;
    let folder = tempfile::tempdir().unwrap();
    let mut rival = rival(&fixture, folder.path()).await;
    rival.ready().await.unwrap();
    fixture.worker.resume().unwrap();
    let status = fixture.worker.child_mut().until_ended(SOON).await.unwrap();
    let log = fixture.worker.child().log_tail();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("worker_id mw-1 is used by another media-worker"), "{log}");
    assert_eq!(fixture.fact(&parties, "ended").await.payload["reason"], "worker_lost");
    rival.ready().await.unwrap();
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    let entry = MediaWorkers::new(&client.storage)
        .entry(&fixture.worker_id)
        .await
        .unwrap();
    assert!(entry.is_some(), "the entry of the other process stays");
}
