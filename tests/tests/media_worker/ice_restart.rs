use contract::Role;
use contract::jetstream::request::{CommandError, RefusalCode};
use contract::wire::command::Requester;
use contract::wire::request::{IceRestarted, RtcRestartIce};
use serde_json::Value;

use crate::fixture::{Fixture, code, receives, relayed, requester, rtp_parameters};

async fn restart(fixture: &Fixture, of: &Requester, transport_id: &str) -> Result<IceRestarted, CommandError> {
    let request = RtcRestartIce {
        transport_id: transport_id.to_owned(),
    };
    fixture.ask(&relayed(of, request)).await
}

fn json(restarted: Result<IceRestarted, CommandError>) -> Value {
    serde_json::to_value(restarted.unwrap()).unwrap()
}

#[tokio::test]
async fn media_moves_to_another_address_with_its_producer_and_consumer() {
    let fixture = Fixture::start(&[("stats_interval_ms", "100"), ("rtp_lost_after_ms", "2000")]).await;
    let parties = fixture.call().await;
    let (user, otomo) = (requester(&parties, Role::User), requester(&parties, Role::Otomo));
    let (talks, answers) = (fixture.join(&user).await, fixture.join(&otomo).await);
    talks.talk().await;
    answers.talk().await;
    let (listens, listens_id) = fixture.listen_with_id(&user).await;
    let hears_user = fixture.listen(&otomo).await;
    for transport in [&listens, &hears_user] {
        receives(transport, 20).await;
    }
    let before = fixture.stored(&parties).await;

    // Again and again, as a walk through a city.
    for _ in 0..3 {
        let restarted = json(restart(&fixture, &user, &talks.transport_id).await);
        talks.send.restart_ice(&restarted).await.unwrap();
        let restarted = json(restart(&fixture, &user, &listens_id).await);
        listens.restart_ice(&restarted).await.unwrap();
        for transport in [&listens, &hears_user] {
            receives(transport, transport.received() + 100).await;
        }
    }
    assert_eq!(fixture.stored(&parties).await, before, "no new fact");

    // The old producer is the producer.
    let again = fixture.produce(&user, &talks.transport_id, rtp_parameters(100, 7));
    assert_eq!(code(again.await), RefusalCode::AlreadyProducing);
}

#[tokio::test]
async fn only_an_own_transport_can_be_restarted() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let (user, otomo) = (requester(&parties, Role::User), requester(&parties, Role::Otomo));
    let sends = fixture.join(&user).await;
    for transport_id in ["", "nothing", &"x".repeat(10_000)] {
        let refused = restart(&fixture, &user, transport_id).await;
        assert_eq!(code(refused), RefusalCode::UnknownTransport);
    }
    assert_eq!(
        code(restart(&fixture, &otomo, &sends.transport_id).await),
        RefusalCode::UnknownTransport,
        "a transport of the other party"
    );
    // It replaces the transport.
    fixture.join(&user).await;
    assert_eq!(
        code(restart(&fixture, &user, &sends.transport_id).await),
        RefusalCode::UnknownTransport
    );
}
