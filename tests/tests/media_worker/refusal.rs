use contract::jetstream::request::RefusalCode;
use contract::jetstream::storage::PARKED;
use contract::wire::command::{Requester, media_operations};
use contract::wire::request::{Direction, RtcCapabilities, RtcCreateTransport, RtcProduce, RtcResume};
use contract::{CallId, Role};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::fixture::{Fixture, SOON, code, refusal, relayed, requester, rtp_parameters};

fn hex() -> String {
    ["AB"; 32].join(":")
}

/// Parameters are an object; another value is no request.
fn refused_as(parameters: &Value) -> RefusalCode {
    if parameters.is_object() {
        RefusalCode::InvalidParameters
    } else {
        RefusalCode::BadRequest
    }
}

fn dtls(value: &str) -> Value {
    json!({ "role": "client", "fingerprints": [{ "algorithm": "sha-256", "value": value }] })
}

#[tokio::test]
async fn only_the_parties_of_a_call_have_access_to_its_media() {
    let fixture = Fixture::start(&[]).await;
    let (parties, others) = (fixture.call().await, fixture.call().await);
    let other = requester(&others, Role::User);
    for third in [
        Requester {
            call_id: parties.call_id.clone(),
            ..other.clone()
        },
        Requester {
            role: Role::Otomo,
            ..requester(&parties, Role::User)
        },
        Requester {
            party_id: "user.*".to_owned(),
            ..requester(&parties, Role::User)
        },
        Requester {
            party_id: String::new(),
            ..requester(&parties, Role::User)
        },
    ] {
        let answer = fixture
            .ask(&relayed(
                &third,
                RtcCreateTransport {
                    direction: Direction::Send,
                },
            ))
            .await;
        assert_eq!(code(answer), RefusalCode::NotAParty, "{third:?}");
    }
    let nowhere = Requester {
        call_id: CallId::generate(),
        ..requester(&parties, Role::User)
    };
    let answer = fixture.ask(&relayed(&nowhere, RtcCapabilities {})).await;
    assert_eq!(code(answer), RefusalCode::UnknownCall);

    // A party has no access to its peer's transport.
    let user = requester(&parties, Role::User);
    let created = fixture.create(&requester(&parties, Role::Otomo), Direction::Send).await;
    let answer = fixture.produce(&user, &created.id, rtp_parameters(100, 1)).await;
    assert_eq!(code(answer), RefusalCode::UnknownTransport);
    assert_eq!(
        code(fixture.connect(&user, &created.id, dtls(&hex())).await),
        RefusalCode::UnknownTransport
    );
}

#[tokio::test]
async fn a_party_may_send_one_audio_stream() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let user = requester(&parties, Role::User);
    let speaker = fixture.join(&user).await;
    let payload_type = fixture.payload_type(&user).await;
    let again = fixture
        .produce(&user, &speaker.transport_id, rtp_parameters(payload_type, 99))
        .await;
    assert_eq!(code(again), RefusalCode::AlreadyProducing);
    for kind in ["video", "", "Audio"] {
        let video = RtcProduce {
            transport_id: speaker.transport_id.clone(),
            kind: kind.to_owned(),
            rtp_parameters: rtp_parameters(payload_type, 99),
        };
        assert_eq!(
            code(fixture.ask(&relayed(&user, video)).await),
            RefusalCode::AudioOnly,
            "{kind}"
        );
    }
    let receiving = fixture.create(&user, Direction::Recv).await;
    let answer = fixture
        .produce(&user, &receiving.id, rtp_parameters(payload_type, 99))
        .await;
    assert_eq!(code(answer), RefusalCode::UnknownTransport, "not on the receiving one");
}

#[tokio::test]
async fn consume_needs_a_producer_and_compatible_capabilities() {
    let fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let (user, otomo) = (requester(&parties, Role::User), requester(&parties, Role::Otomo));
    let capabilities = fixture.capabilities(&otomo).await;
    let receiving = fixture.create(&otomo, Direction::Recv).await;
    let answer = fixture.consume(&otomo, &receiving.id, capabilities.clone()).await;
    assert_eq!(code(answer), RefusalCode::NoProducer);
    let _speaker = fixture.join(&user).await;
    let video = json!({ "codecs": [{ "kind": "video", "mimeType": "video/VP8", "clockRate": 90_000 }] });
    assert_eq!(
        code(fixture.consume(&otomo, &receiving.id, video).await),
        RefusalCode::CannotConsume
    );
    assert_eq!(
        code(fixture.consume(&otomo, &receiving.id, json!(7)).await),
        RefusalCode::BadRequest
    );
    let consumed = fixture
        .consume(&otomo, &receiving.id, capabilities.clone())
        .await
        .unwrap();
    let again = fixture.consume(&otomo, &receiving.id, capabilities).await.unwrap();
    assert_ne!(consumed.consumer_id, again.consumer_id);
    let stale = RtcResume {
        consumer_id: consumed.consumer_id,
    };
    assert_eq!(
        code(fixture.ask(&relayed(&otomo, stale)).await),
        RefusalCode::UnknownConsumer,
        "replaced by the newer one"
    );
    let theirs = RtcResume {
        consumer_id: again.consumer_id,
    };
    assert_eq!(
        code(fixture.ask(&relayed(&user, theirs)).await),
        RefusalCode::UnknownConsumer
    );
}

#[tokio::test]
async fn malformed_parameters_are_refused_and_the_worker_keeps_running() {
    let mut fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let user = requester(&parties, Role::User);
    let created = fixture.create(&user, Direction::Send).await;
    let candidates = created.ice_candidates.as_array().unwrap();
    assert!(
        candidates
            .iter()
            .all(|it| it["ip"] == it["address"] && it["ip"] == "127.0.0.1"),
        "{candidates:?}"
    );
    for wrong in [
        json!(null),
        json!({ "fingerprints": [] }),
        dtls(""),
        dtls("zz"),
        dtls(&"音".repeat(31)),
        dtls(&format!("A{}A", "音".repeat(31))),
        json!({ "role": "boss", "fingerprints": [{ "algorithm": "sha-256", "value": hex() }] }),
    ] {
        let refusal = refusal(fixture.connect(&user, &created.id, wrong.clone()).await);
        assert_eq!(refusal.code, refused_as(&wrong), "{wrong}");
        assert!(!refusal.message.is_empty());
    }
    let good = rtp_parameters(100, 1);
    let with = |pointer: &str, value: Value| {
        let mut parameters = good.clone();
        *parameters.pointer_mut(pointer).unwrap() = value;
        parameters
    };
    for wrong in [
        json!([]),
        with("/codecs", json!([])),
        with("/codecs/0/mimeType", json!("video/VP8")),
        with("/codecs/0/payloadType", json!(4_000_000_000_u32)),
        with("/encodings", json!([])),
        with("/encodings", json!([{ "ssrc": 1 }, { "ssrc": 1 }])),
        with("/encodings/0/ssrc", json!("one")),
        with("/mid", json!("x".repeat(10_000))),
        with("/encodings/0/ssrc", json!(0)),
        with(
            "/headerExtensions",
            json!([{ "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 0 }]),
        ),
    ] {
        let answer = fixture.produce(&user, &created.id, wrong.clone()).await;
        assert_eq!(code(answer), refused_as(&wrong), "{wrong}");
    }
    assert_eq!(
        code(fixture.connect(&user, "no-transport", dtls(&hex())).await),
        RefusalCode::UnknownTransport
    );
    // The same party can continue.
    let speaker = fixture.join(&user).await;
    speaker.talk().await;
    fixture.fact(&parties, "rtp_detected").await;
    let twice = fixture.connect(&user, &speaker.transport_id, dtls(&hex())).await;
    assert_eq!(code(twice), RefusalCode::WrongState);
    fixture.assert_alive().await;
}

#[tokio::test]
async fn an_undecodable_command_is_refused_and_not_parked() {
    let mut fixture = Fixture::start(&[]).await;
    let jetstream = async_nats::jetstream::new(fixture.client().clone());
    let parked = jetstream.get_stream(PARKED).await.unwrap();
    // Any object is a request to cordon.
    for operation in media_operations().filter(|name| !name.ends_with("cordon")) {
        for payload in [&b""[..], b"{", b"\xff\xfe", b"[]", br#"{"callId":"a.b"}"#] {
            let answer = fixture.ask_raw(operation, payload.to_vec()).await;
            let headers = answer.headers.unwrap();
            let error = headers.get("Nats-Service-Error").unwrap().as_str();
            assert!(error.starts_with("bad_request: "), "{operation} {payload:?}: {error}");
            assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "400");
            let body: Value = serde_json::from_slice(&answer.payload).unwrap();
            let told = format!(
                "{}: {}",
                body["code"].as_str().unwrap(),
                body["message"].as_str().unwrap()
            );
            assert_eq!(told, error, "the body says the same");
        }
    }
    let answer = fixture.ask_raw("open_call", vec![b' '; 200_000]).await;
    assert!(
        answer
            .headers
            .unwrap()
            .get("Nats-Service-Error")
            .unwrap()
            .as_str()
            .contains("at most")
    );
    assert_eq!(parked.get_info().await.unwrap().state.messages, 0);
    fixture.assert_alive().await;
}

#[tokio::test]
async fn the_nats_service_api_lists_the_worker() {
    let fixture = Fixture::start(&[]).await;
    let mut answers = fixture.client().subscribe("info.inbox").await.unwrap();
    fixture
        .client()
        .publish_with_reply("$SRV.INFO.media-worker", "info.inbox", "".into())
        .await
        .unwrap();
    let info = tokio::time::timeout(SOON, answers.next()).await.unwrap().unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    let subjects: Vec<_> = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects.len(), media_operations().count());
    assert!(subjects.contains(&"media.mw-1.close_call"), "{subjects:?}");
}
