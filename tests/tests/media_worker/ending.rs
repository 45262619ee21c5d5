use anyhow::ensure;
use callpulse_tests::builders::new_parties;
use callpulse_tests::contract_client::ContractClient;
use callpulse_tests::wait::eventually;
use contract::jetstream::request::{CommandError, RefusalCode};
use contract::wire::command::{CallClosed, CloseCall, End, OpenCall};
use contract::wire::fact::{Accepted, Ended};
use contract::{EndReason, PublishCondition, Role, Timestamp};

use crate::rig::{Rig, SOON, asker, code};

#[tokio::test]
async fn hanging_up_stores_the_end_once_and_says_when() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let hears = rig.notices(&parties.party(Role::Otomo)).await;
    let speaker = rig.join(&asker(&parties, Role::User)).await;
    speaker.talk().await;
    // No wait for the fact: the end must not overtake it.
    hears.expect("call_connected").await;
    let closed = rig.hang_up(&parties).await.unwrap();
    let facts = rig.facts.of_call(parties.call_id.as_str()).await.unwrap();
    let names: Vec<_> = facts.iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(names, ["rtp_detected", "ended"]);
    let ended = &facts[1];
    assert_eq!(ended.payload["reason"], "hangup");
    assert_eq!(ended.payload["by"], "user");
    assert_eq!(ended.payload["connectedAt"], facts[0].payload["connectedAt"]);
    let stored: CallClosed = serde_json::from_value(ended.payload.clone()).unwrap();
    assert_eq!(closed, stored);
    assert_eq!(code(rig.hang_up(&parties).await), RefusalCode::UnknownCall);
    assert_eq!(
        hears.count("call_ended"),
        0,
        "the settlement tells, for only it knows what is billed"
    );
}

#[tokio::test]
async fn a_call_that_never_began_is_told_to_be_over_by_the_worker() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let hears = rig.notices(&parties.party(Role::User)).await;
    let closed = rig.hang_up(&parties).await.unwrap();
    assert_eq!(closed.connected_at, None);
    let notice = hears.expect("call_ended").await;
    assert_eq!(
        (&notice["billedMinutes"], &notice["reason"]),
        (&0.into(), &"hangup".into())
    );
    assert_eq!(rig.stored(&parties).await, ["ended"]);
}

#[tokio::test]
async fn a_room_is_given_back_without_a_fact() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let closed = rig
        .ask(&CloseCall {
            call_id: parties.call_id.clone(),
            end: None,
        })
        .await
        .unwrap();
    assert_eq!(
        closed,
        CallClosed {
            ended_at: None,
            connected_at: None
        }
    );
    assert_eq!(rig.stored(&parties).await, [""; 0]);
    assert_eq!(code(rig.hang_up(&parties).await), RefusalCode::UnknownCall);
}

#[tokio::test]
async fn who_ended_it_first_is_right() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let client = ContractClient::open(&rig.nats).await.unwrap();
    let ended_at = Timestamp::now();
    let theirs = Ended {
        parties: parties.clone(),
        ended_at,
        reason: EndReason::WorkerLost,
        by: "edge-1".to_owned(),
        connected_at: None,
    };
    client.publish(theirs, PublishCondition::First).await.unwrap();
    let closed = rig.hang_up(&parties).await.unwrap();
    assert_eq!(
        closed,
        CallClosed {
            ended_at: Some(ended_at),
            connected_at: None
        }
    );
    assert_eq!(rig.stored(&parties).await, ["ended"]);
}

#[tokio::test]
async fn a_call_that_somebody_has_ended_does_not_begin_after_it() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let user = rig.join(&asker(&parties, Role::User)).await;
    let told = rig.notices(&parties.party(Role::User)).await;
    let client = ContractClient::open(&rig.nats).await.unwrap();
    // As an edge does that has not heard of the worker for a while.
    let theirs = Ended {
        parties: parties.clone(),
        ended_at: Timestamp::now(),
        reason: EndReason::WorkerLost,
        by: "mw-1".to_owned(),
        connected_at: None,
    };
    client.publish(theirs, PublishCondition::First).await.unwrap();
    user.talk().await;
    let hears = rig.listen(&asker(&parties, Role::Otomo)).await;
    eventually("the otomo hears the user", SOON, async || {
        ensure!(hears.received() > 20, "{} packets", hears.received());
        Ok(())
    })
    .await
    .unwrap();
    // The end of it here follows what there was to say of its beginning.
    let closed = rig.hang_up(&parties).await.unwrap();
    assert_eq!(closed.connected_at, None);
    assert_eq!(rig.stored(&parties).await, ["ended"]);
    assert_eq!(told.count("call_connected"), 0);
}

#[tokio::test]
async fn a_room_for_a_call_that_another_worker_hosts_ends_nothing() {
    let rig = Rig::start(&[("media_timeout_ms", "500")]).await;
    let client = ContractClient::open(&rig.nats).await.unwrap();
    // The edge gave up waiting for this worker, asked another one, and took the room back before it was made.
    let parties = new_parties();
    let accepted = Accepted {
        parties: parties.clone(),
        accepted_at: Timestamp::now(),
        worker_id: "mw-2".parse().unwrap(),
    };
    client.publish(accepted, PublishCondition::First).await.unwrap();
    let open = OpenCall {
        parties: parties.clone(),
    };
    rig.ask(&open).await.unwrap();
    eventually("the room being given up", SOON, async || {
        let error = rig.hang_up(&parties).await.err();
        ensure!(matches!(&error, Some(CommandError::Refused(refusal)) if refusal.code == RefusalCode::UnknownCall));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rig.stored(&parties).await, ["accepted"]);
}

#[tokio::test]
async fn hanging_up_from_both_sides_at_once_ends_it_once() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    let answers = futures::future::join_all((0..8).map(|_| rig.hang_up(&parties))).await;
    let mut closed = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => closed.push(answer),
            // Came after all was over.
            refused => assert_eq!(code(refused), RefusalCode::UnknownCall),
        }
    }
    assert!(!closed.is_empty());
    assert!(closed.windows(2).all(|pair| pair[0] == pair[1]), "{closed:?}");
    assert_eq!(rig.stored(&parties).await, ["ended"]);
}

#[tokio::test]
async fn a_call_without_rtp_is_given_up_in_time() {
    let rig = Rig::start(&[("media_timeout_ms", "500"), ("stats_interval_ms", "100")]).await;
    let parties = rig.call().await;
    let hears = rig.notices(&parties.party(Role::User)).await;
    rig.join(&asker(&parties, Role::User)).await;
    let fact = rig.facts.expect(parties.call_id.as_str(), "ended", SOON).await.unwrap();
    assert_eq!(
        (&fact.payload["reason"], &fact.payload["by"]),
        (&"media_timeout".into(), &"mw-1".into())
    );
    assert!(fact.payload["connectedAt"].is_null());
    assert_eq!(hears.expect("call_ended").await["reason"], "media_timeout");
}

#[tokio::test]
async fn who_ends_a_call_has_a_name_that_fits_into_its_record() {
    let rig = Rig::start(&[]).await;
    let parties = rig.call().await;
    for by in [String::new(), "x".repeat(20_000)] {
        let end = Some(End {
            reason: EndReason::Terminated,
            by,
        });
        let close = CloseCall {
            call_id: parties.call_id.clone(),
            end,
        };
        assert_eq!(code(rig.ask(&close).await), RefusalCode::BadRequest);
    }
    rig.hang_up(&parties).await.unwrap();
}
