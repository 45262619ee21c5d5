//! The streams of a real server.

use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;

use crate::checker::{check, stream};
use crate::records::run_log::RunLog;
use crate::report::Check;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};

/// More than one batch of the client.
const MESSAGES: u64 = 1_234;

async fn streams(client: &async_nats::Client) -> jetstream::Context {
    let jetstream = jetstream::new(client.clone());
    for (name, subjects) in [("CALLS", "call.*.*"), ("PARKED", "parked.>")] {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![subjects.to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(config).await.unwrap();
    }
    jetstream
}

#[tokio::test]
async fn all_stored_messages_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start(folder.path(), Sync::Lazy).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = streams(&client).await;
    assert_eq!(stream::read(&client, "CALLS").await.unwrap().len(), 0);

    let before = SystemTime::now();
    for number in 1..=MESSAGES {
        let acknowledgement = jetstream.publish(format!("call.c{number}.tick"), number.to_string().into());
        acknowledgement.await.unwrap().await.unwrap();
    }
    let after = SystemTime::now();

    let stored = stream::read(&client, "CALLS").await.unwrap();
    assert_eq!(stored.len() as u64, MESSAGES);
    for (number, stored) in (1..).zip(&stored) {
        assert_eq!(
            (stored.sequence, stored.subject.as_str()),
            (number, format!("call.c{number}.tick").as_str())
        );
        assert_eq!(stored.payload, number.to_string().into_bytes());
        assert!(stored.stored_at >= before.into() && stored.stored_at <= after.into());
    }

    let parked = jetstream
        .publish("parked.ws-edge.calls", "no fact".into())
        .await
        .unwrap();
    parked.await.unwrap();
    let report = check(client, &RunLog::default(), Duration::from_secs(2)).await.unwrap();
    assert_eq!((report.facts, report.count(Check::Unreadable)), (MESSAGES, MESSAGES));
    assert_eq!((report.count(Check::Parked), report.count(Check::Nothing)), (1, 1));
}

#[tokio::test]
async fn a_missing_stream_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start(folder.path(), Sync::Lazy).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let outcome = check(client, &RunLog::default(), Duration::from_secs(2)).await;
    assert!(format!("{:#}", outcome.unwrap_err()).starts_with("reading CALLS"));
}
