//! Streams and buckets are created and compared, never deleted. Undecodable messages are parked.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use contract::jetstream::parking;
use contract::jetstream::storage::{CALLS, Storage, StorageError};
use contract::samples::{at, rtp_detected};
use contract::wire::subject;
use futures::StreamExt;
use tokio::time::timeout;

use crate::fixture::{Fixture, SOON};

#[tokio::test]
async fn opening_the_storage_again_changes_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let nats = crate::fixture::connect(&fixture.server).await?;
    nats.connected().await;
    Storage::open(&nats).await?;
    Ok(())
}

#[tokio::test]
async fn concurrent_processes_open_the_storage() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = callpulse_tests::servers::nats_server::NatsServer::start(
        folder.path(),
        callpulse_tests::servers::nats_server::Sync::Lazy,
    )
    .await?;
    let mut opened = Vec::new();
    for _ in 0..6 {
        let nats = crate::fixture::connect(&server).await?;
        opened.push(async move { Storage::open_when_available(&nats).await });
    }
    timeout(SOON, futures::future::try_join_all(opened)).await??;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_differs_is_an_error_and_is_not_changed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let fact: contract::Fact = rtp_detected("c", at(1)).into();
    fixture
        .facts
        .publish(
            &fact,
            contract::PublishCondition::First,
            contract::TraceParent::generate(),
        )
        .await?;
    let mut config = fixture
        .nats
        .jetstream
        .get_stream(CALLS)
        .await?
        .cached_info()
        .config
        .clone();
    config.max_age /= 2;
    fixture.nats.jetstream.update_stream(&config).await?;
    let error = Storage::open(&fixture.nats).await.err().context("it was opened")?;
    ensure!(
        matches!(&error, StorageError::Differs { name: "CALLS", differences } if differences.contains("max_age")),
        "{error}"
    );
    let error = timeout(SOON, Storage::open_when_available(&fixture.nats))
        .await?
        .err()
        .context("it was opened")?;
    ensure!(matches!(error, StorageError::Differs { .. }), "waiting would not help");
    let left = fixture.nats.jetstream.get_stream(CALLS).await?;
    ensure!(left.cached_info().config.max_age == config.max_age && left.cached_info().state.messages == 1);
    Ok(())
}

#[tokio::test]
async fn facts_cannot_be_deleted_and_a_later_archiver_may_purge() -> Result<()> {
    let fixture = Fixture::start().await?;
    let fact: contract::Fact = rtp_detected("c", at(1)).into();
    let outcome = fixture
        .facts
        .publish(
            &fact,
            contract::PublishCondition::First,
            contract::TraceParent::generate(),
        )
        .await?;
    let sequence = outcome.sequence().context("refused")?;
    ensure!(fixture.storage.calls.delete_message(sequence).await.is_err());
    let mut rollup = HeaderMap::new();
    rollup.insert("Nats-Rollup", "all");
    let subject = subject::fact(fact.call_id(), fact.kind());
    let rolled_up = fixture
        .nats
        .jetstream
        .publish_with_headers(subject, rollup, "".into())
        .await?;
    ensure!(rolled_up.await.is_err());
    ensure!(fixture.facts.last(fact.call_id(), fact.kind()).await?.is_some());
    let purged = fixture.storage.calls.purge().sequence(sequence + 1).await?;
    ensure!(purged.purged == 1);
    Ok(())
}

#[tokio::test]
async fn a_parked_message_has_its_origin_and_reason_and_is_acknowledged() -> Result<()> {
    use async_nats::jetstream::consumer::pull;
    let fixture = Fixture::start().await?;
    fixture
        .nats
        .jetstream
        .publish("call.bad.tick", "rubbish".into())
        .await?
        .await?;
    let config = pull::Config {
        durable_name: Some("reader".to_owned()),
        ..Default::default()
    };
    let mut consumer = fixture.storage.calls.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    let delivery = timeout(SOON, messages.next()).await?.context("the consumer ended")??;
    parking::park_delivery(&fixture.nats, "reader", &delivery, "no JSON\r\nat all").await?;
    // Parked again after a crash: stored once.
    parking::park_delivery(&fixture.nats, "reader", &delivery, "no JSON").await?;

    let mut parked = fixture.storage.parked.clone();
    ensure!(parked.info().await?.state.messages == 1);
    let message = parked
        .get_last_raw_message_by_subject(&subject::parked("reader", "call.bad.tick"))
        .await?;
    let header = |name| {
        message
            .headers
            .get(name)
            .map(|value| value.as_str().to_owned())
            .unwrap_or_default()
    };
    ensure!(message.payload == "rubbish");
    ensure!(
        header(parking::REASON) == "no JSON  at all",
        "{}",
        header(parking::REASON)
    );
    ensure!(header(parking::ORIGINAL_SUBJECT) == "call.bad.tick" && header(parking::ORIGINAL_SEQUENCE) == "1");
    callpulse_tests::wait::eventually("nothing pending", SOON, async || {
        let info = consumer.info().await?;
        ensure!(info.num_ack_pending == 0 && info.num_pending == 0, "{info:?}");
        Ok(())
    })
    .await?;
    Ok(())
}
