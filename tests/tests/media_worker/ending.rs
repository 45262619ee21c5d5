use anyhow::ensure;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::wait::eventually;
use contract::jetstream::request::{CommandError, RefusalCode};
use contract::samples::{accepted, new_parties, requested};
use contract::wire::command::{CallClosed, CloseCall, End, OpenCall};
use contract::wire::fact::{Accepted, Ended};
use contract::{EndReason, Parties, PublishCondition, Role, Timestamp};

use crate::fixture::{Fixture, SOON, code, metric_becomes, receives, requester, worker_lost};

fn accepted_by(worker: &str, parties: &Parties) -> Accepted {
    Accepted {
        worker_id: worker.parse().unwrap(),
        ..accepted(parties.call_id.as_str(), Timestamp::now())
    }
}

/// Waits until the worker does not know a call.
async fn is_released(fixture: &Fixture, parties: &Parties) {
    let released = eventually("the call being released", SOON, async || {
        let error = fixture.hang_up(parties).await.err();
        ensure!(matches!(&error, Some(CommandError::Refused(refusal)) if refusal.code == RefusalCode::UnknownCall));
        Ok(())
    });
    released.await.unwrap();
}

#[tokio::test]
async fn a_hangup_stores_the_end_once_and_returns_its_time() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let notices = fixture.notices(&parties.party(Role::Otomo)).await;
    let speaker = fixture.join(&requester(&parties, Role::User)).await;
    speaker.talk().await;
    // The end must not overtake the connection.
    notices.expect("call_connected").await;
    let closed = fixture.hang_up(&parties).await.unwrap();
    let facts = fixture.facts.of_call(parties.call_id.as_str()).await.unwrap();
    let names: Vec<_> = facts.iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(names, ["rtp_detected", "ended"]);
    let ended = &facts[1];
    assert_eq!(ended.payload["reason"], "hangup");
    assert_eq!(ended.payload["by"], "user");
    assert_eq!(ended.payload["connectedAt"], facts[0].payload["connectedAt"]);
    let stored: CallClosed = serde_json::from_value(ended.payload.clone()).unwrap();
    assert_eq!(closed, stored);
    assert_eq!(code(fixture.hang_up(&parties).await), RefusalCode::UnknownCall);
    assert_eq!(
        notices.count("call_ended"),
        0,
        "the settlement sends it, because only it has the bill"
    );
}

#[tokio::test]
async fn the_worker_sends_the_end_of_an_unconnected_call() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let notices = fixture.notices(&parties.party(Role::User)).await;
    let closed = fixture.hang_up(&parties).await.unwrap();
    assert_eq!(closed.connected_at, None);
    let notice = notices.expect("call_ended").await;
    assert_eq!(
        (&notice["billedMinutes"], &notice["reason"]),
        (&0.into(), &"hangup".into())
    );
    assert_eq!(fixture.stored(&parties).await, ["ended"]);
}

#[tokio::test]
async fn closing_a_call_without_an_end_stores_no_fact() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let closed = fixture
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
    assert_eq!(fixture.stored(&parties).await, [""; 0]);
    assert_eq!(code(fixture.hang_up(&parties).await), RefusalCode::UnknownCall);
}

#[tokio::test]
async fn an_accepted_or_connected_call_is_not_closed_without_an_end() {
    let fixture = Fixture::start(&[]).await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    let (connected, accepted, other) = (fixture.call().await, fixture.call().await, fixture.call().await);
    fixture.join(&requester(&connected, Role::User)).await.talk().await;
    fixture.fact(&connected, "rtp_detected").await;
    for (parties, worker) in [(&accepted, "mw-1"), (&other, "mw-2")] {
        let accepted = accepted_by(worker, parties);
        client.publish(accepted, PublishCondition::First).await.unwrap();
    }
    let close = |parties: &Parties| CloseCall {
        call_id: parties.call_id.clone(),
        end: None,
    };
    for parties in [&connected, &accepted] {
        assert_eq!(code(fixture.ask(&close(parties)).await), RefusalCode::WrongState);
        assert!(fixture.hang_up(parties).await.unwrap().ended_at.is_some());
    }
    fixture.ask(&close(&other)).await.unwrap();
    assert_eq!(code(fixture.hang_up(&other).await), RefusalCode::UnknownCall);
}

/// With `ring_timeout_ms` above `media_timeout_ms`: the edge that opened the call died before it stored the acceptance.
#[tokio::test]
async fn a_call_that_still_rings_is_released_at_its_media_timeout_without_a_fact() {
    let fixture = Fixture::start(&[("media_timeout_ms", "500")]).await;
    let parties = new_parties();
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    let requested = requested(parties.call_id.as_str(), Timestamp::now());
    client.publish(requested, PublishCondition::First).await.unwrap();
    fixture.ask(&OpenCall::new(parties.clone())).await.unwrap();
    metric_becomes(&fixture.worker, "callpulse_media_calls", 0.0).await;
    assert_eq!(fixture.stored(&parties).await, ["requested"]);
}

#[tokio::test]
async fn the_first_stored_end_is_returned() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    let theirs = worker_lost(&parties);
    let ended_at = theirs.ended_at;
    client.publish(theirs, PublishCondition::First).await.unwrap();
    let closed = fixture.hang_up(&parties).await.unwrap();
    assert_eq!(
        closed,
        CallClosed {
            ended_at: Some(ended_at),
            connected_at: None
        }
    );
    assert_eq!(fixture.stored(&parties).await, ["ended"]);
}

#[tokio::test]
async fn a_call_with_a_stored_end_does_not_connect() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let user = fixture.join(&requester(&parties, Role::User)).await;
    let notices = fixture.notices(&parties.party(Role::User)).await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    // Like an edge after the worker's entry has expired.
    let theirs = Ended {
        by: "mw-1".to_owned(),
        ..worker_lost(&parties)
    };
    client.publish(theirs, PublishCondition::First).await.unwrap();
    user.talk().await;
    let hears = fixture.listen(&requester(&parties, Role::Otomo)).await;
    receives(&hears, 20).await;
    // The worker publishes the end after its other facts of the call.
    let closed = fixture.hang_up(&parties).await.unwrap();
    assert_eq!(closed.connected_at, None);
    assert_eq!(fixture.stored(&parties).await, ["ended"]);
    assert_eq!(notices.count("call_connected"), 0);
}

#[tokio::test]
async fn a_reservation_for_a_call_of_another_worker_expires_without_a_fact() {
    let fixture = Fixture::start(&[("media_timeout_ms", "500")]).await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    // The edge timed out, opened the call on another worker, and released this one before it handled `open_call`.
    let parties = new_parties();
    let accepted = accepted_by("mw-2", &parties);
    client.publish(accepted, PublishCondition::First).await.unwrap();
    let open = OpenCall::new(parties.clone());
    fixture.ask(&open).await.unwrap();
    is_released(&fixture, &parties).await;
    assert_eq!(fixture.stored(&parties).await, ["accepted"]);
}

#[tokio::test]
async fn a_fact_of_a_later_version_hides_neither_the_call_nor_its_worker() {
    let fixture = Fixture::start(&[("media_timeout_ms", "500")]).await;
    let client = ContractClient::open(&fixture.nats).await.unwrap();
    for (worker, expected) in [
        ("mw-1", ["accepted", "moon_rose", "ended"].as_slice()),
        ("mw-2", &["accepted", "moon_rose"]),
    ] {
        let parties = new_parties();
        let accepted = accepted_by(worker, &parties);
        client.publish(accepted, PublishCondition::First).await.unwrap();
        let subject = format!("call.{}.moon_rose", parties.call_id);
        client.publish_unconditionally(subject, "{}".into()).await.unwrap();
        let open = OpenCall::new(parties.clone());
        fixture.ask(&open).await.unwrap();
        is_released(&fixture, &parties).await;
        assert_eq!(fixture.stored(&parties).await, expected);
    }
    let unknown = fixture
        .worker
        .metric(r#"callpulse_unknown_total{type="kind"}"#)
        .await
        .unwrap();
    assert!(unknown.is_some());
}

#[tokio::test]
async fn concurrent_hangups_store_one_end() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let answers = futures::future::join_all((0..8).map(|_| fixture.hang_up(&parties))).await;
    let mut closed = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => closed.push(answer),
            // Arrived after the end.
            refused => assert_eq!(code(refused), RefusalCode::UnknownCall),
        }
    }
    assert!(!closed.is_empty());
    assert!(closed.windows(2).all(|pair| pair[0] == pair[1]), "{closed:?}");
    assert_eq!(fixture.stored(&parties).await, ["ended"]);
}

#[tokio::test]
async fn a_call_without_rtp_ends_at_the_media_timeout() {
    let fixture = Fixture::start(&[("media_timeout_ms", "500"), ("stats_interval_ms", "100")]).await;
    let parties = fixture.call().await;
    let notices = fixture.notices(&parties.party(Role::User)).await;
    fixture.join(&requester(&parties, Role::User)).await;
    let fact = fixture.fact(&parties, "ended").await;
    assert_eq!(
        (&fact.payload["reason"], &fact.payload["by"]),
        (&"media_timeout".into(), &"mw-1".into())
    );
    assert!(fact.payload["connectedAt"].is_null());
    assert_eq!(notices.expect("call_ended").await["reason"], "media_timeout");
}

#[tokio::test]
async fn an_end_by_an_empty_or_long_name_is_refused() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    for by in [String::new(), "x".repeat(20_000)] {
        let end = Some(End {
            reason: EndReason::Terminated,
            by,
        });
        let close = CloseCall {
            call_id: parties.call_id.clone(),
            end,
        };
        assert_eq!(code(fixture.ask(&close).await), RefusalCode::BadRequest);
    }
    fixture.hang_up(&parties).await.unwrap();
}
