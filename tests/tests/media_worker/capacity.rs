use anyhow::ensure;
use async_nats::jetstream;
use callpulse_tests::wait::eventually;
use contract::Role;
use contract::jetstream::request::RefusalCode;
use contract::jetstream::storage::CALLS;
use contract::samples::new_parties;
use contract::wire::command::OpenCall;
use contract::wire::request::Direction;
use futures::StreamExt;

use crate::fixture::{Fixture, SOON, code, metric_becomes, requester, rtp_parameters};

#[tokio::test]
async fn open_call_is_idempotent_and_limited_by_the_capacity() {
    let fixture = Fixture::start(&[("capacity", "1"), ("mediasoup_workers", "2")]).await;
    let parties = fixture.call().await;
    let again = contract::wire::command::OpenCall::new(parties.clone());
    let (first, second) = (fixture.ask(&again).await.unwrap(), fixture.ask(&again).await.unwrap());
    assert_eq!(first, second);
    let others = contract::Parties {
        user_id: "someone-else".parse().unwrap(),
        ..parties.clone()
    };
    assert_eq!(
        code(fixture.ask(&contract::wire::command::OpenCall::new(others)).await),
        RefusalCode::WrongState
    );
    let more = contract::wire::command::OpenCall::new(new_parties());
    assert_eq!(code(fixture.ask(&more).await), RefusalCode::AtCapacity);
    fixture.hang_up(&parties).await.unwrap();
    fixture.ask(&more).await.unwrap();
    fixture
        .create(&requester(&more.parties, Role::User), Direction::Recv)
        .await;
}

/// The default capacity.
const ROUNDS: &str = "callpulse_media_sampling_seconds_count";
const MANY: usize = 500;

#[tokio::test]
async fn a_full_worker_samples_all_calls_and_ends_them_when_it_stops() {
    let mut fixture = Fixture::start(&[]).await;
    let rig_ref = &fixture;
    let opened = futures::stream::iter(0..MANY).map(|number| async move {
        let parties = rig_ref.call().await;
        for role in Role::BOTH {
            let requester = requester(&parties, role);
            let created = rig_ref.create(&requester, Direction::Send).await;
            let ssrc = u32::try_from(number + 1).unwrap();
            rig_ref
                .produce(&requester, &created.id, rtp_parameters(100, ssrc))
                .await
                .unwrap();
        }
    });
    opened.buffer_unordered(16).collect::<Vec<()>>().await;
    let one_more = OpenCall::new(new_parties());
    assert_eq!(code(fixture.ask(&one_more).await), RefusalCode::AtCapacity);

    let rounds = fixture.worker.metric(ROUNDS).await.unwrap();
    eventually("two more sampling rounds", SOON, async || {
        let now = fixture.worker.metric(ROUNDS).await?;
        ensure!(now >= rounds.map(|rounds| rounds + 2.0), "{now:?} rounds");
        Ok(())
    })
    .await
    .unwrap();
    assert!(fixture.worker.terminate(SOON).await.unwrap().success());
    let facts = fixture.facts.all().await.unwrap();
    assert_eq!(facts.len(), MANY);
    assert!(
        facts
            .iter()
            .all(|fact| fact.name == "ended" && fact.payload["reason"] == "worker_shutdown")
    );
}

#[tokio::test]
async fn a_worker_with_a_full_backlog_refuses_calls_and_loses_no_fact() {
    let fixture = Fixture::start(&[("capacity", "4"), ("fact_queue_capacity", "4")]).await;
    let first = fixture.call().await;
    fixture.hang_up(&first).await.unwrap();
    // A full stream: commands are answered, and facts are not acknowledged.
    let jetstream = jetstream::new(fixture.client().clone());
    let usual = jetstream.get_stream(CALLS).await.unwrap().cached_info().config.clone();
    let discard = jetstream::stream::DiscardPolicy::New;
    let full = jetstream::stream::Config {
        max_messages: 1,
        discard,
        ..usual.clone()
    };
    jetstream.update_stream(full).await.unwrap();

    let mut calls = Vec::new();
    for _ in 0..3 {
        let parties = fixture.call().await;
        let speaker = fixture.join(&requester(&parties, Role::User)).await;
        speaker.talk().await;
        calls.push((parties, speaker));
    }
    metric_becomes(&fixture.worker, "callpulse_media_queued_facts", 3.0).await;
    let one_more = OpenCall::new(new_parties());
    assert_eq!(code(fixture.ask(&one_more).await), RefusalCode::AtCapacity);

    jetstream.update_stream(usual).await.unwrap();
    for (parties, _) in &calls {
        fixture.fact(parties, "rtp_detected").await;
    }
    fixture.ask(&one_more).await.unwrap();
    assert_eq!(
        fixture.worker.metric("callpulse_media_facts_lost_total").await.unwrap(),
        Some(0.0)
    );
}
