//! A mediasoup worker dies: its calls end as `worker_lost`, others go on, and another worker takes its place.
//!
//! The SFU, its calls and the nats-server are real. The death is told on the queue on which mediasoup's `on_dead` tells
//! it: a worker thread dies of a failed assertion only, and none can be provoked from outside.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use callpulse_tests::eventually::eventually;
use callpulse_tests::facts::Facts;
use callpulse_tests::nats_server::{NatsServer, Sync};
use contract::buckets::active_calls::ActiveCalls;
use contract::jetstream::storage::Storage;
use contract::{CallId, FactStore, Nats, NatsSettings, Parties, Source, TraceParent};
use media_worker::calls::{Calls, Rules};
use media_worker::detection::ConnectPolicy;
use media_worker::liveness::Limits;
use media_worker::outbox::Post;
use media_worker::revival;
use media_worker::sfu::{Death, Sfu, SfuSettings};
use service::Health;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);

fn parties(call: &str) -> Parties {
    Parties {
        call_id: call.parse().unwrap(),
        user_id: format!("user_of_{call}").parse().unwrap(),
        otomo_id: format!("otomo_of_{call}").parse().unwrap(),
    }
}

async fn calls_on(nats: &Nats, sfu: &Arc<Sfu>) -> Arc<Calls> {
    let storage = Storage::open_when_available(nats).await.unwrap();
    let facts = FactStore::new(nats, &storage, Source::new("media-worker", "mw_1"));
    let active = ActiveCalls::new(&storage, facts.clone());
    let limits = Limits {
        media_timeout: Duration::from_secs(60),
        lost_after: Duration::from_secs(5),
        rtp_timeout: Duration::from_secs(15),
        one_sided_timeout: None,
        sample_interval: Duration::from_secs(1),
    };
    let rules = Rules {
        worker_id: "mw_1".parse().unwrap(),
        capacity: 100,
        connect_policy: ConnectPolicy::FirstRtp,
        limits,
    };
    Calls::new(
        rules,
        Arc::clone(sfu),
        Arc::new(Post::new(nats.clone(), facts, active, "mw_1".parse().unwrap(), 1_000)),
    )
}

#[tokio::test]
async fn the_calls_of_a_dead_worker_end_and_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start(folder.path(), Sync::Lazy).await.unwrap();
    let settings = NatsSettings {
        url: server.url(),
        ..NatsSettings::default()
    };
    let nats = Nats::connect(&settings, "", "test").await.unwrap();
    let (sfu, _deaths) = Sfu::start(SfuSettings {
        workers: 2,
        listen_ip: Ipv4Addr::LOCALHOST.into(),
        announced_address: None,
        rtc_port: 0,
        ice_consent_timeout_s: 30,
    })
    .await
    .unwrap();
    let sfu = Arc::new(sfu);
    let calls = calls_on(&nats, &sfu).await;
    let names = ["call_1", "call_2", "call_3", "call_4"];
    for name in names {
        calls.open(parties(name), TraceParent::generate()).await.unwrap();
    }
    let host_of = |name: &str| calls.find(&name.parse::<CallId>().unwrap()).unwrap().host().unwrap();
    let doomed = host_of("call_1");
    let (lost, kept): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| host_of(name) == doomed);
    assert_eq!((lost.len(), kept.len()), (2, 2), "calls go where the fewest are");

    let (tell, told) = mpsc::channel(1);
    let (whole, over) = (Health::default().condition("sfu"), CancellationToken::new());
    let revival = tokio::spawn(revival::run(
        Arc::clone(&sfu),
        Arc::clone(&calls),
        told,
        whole,
        over.clone(),
    ));
    let reason = "an assertion failed".to_owned();
    let slot = u16::try_from(doomed - 1).unwrap(); // workers are named from 1 in the order of their places
    tell.send(Death {
        host: doomed,
        slot,
        reason,
    })
    .await
    .unwrap();

    let facts = Facts::connect(&server.url()).await.unwrap();
    for name in &lost {
        let ended = facts.expect(name, "ended", SOON).await.unwrap();
        assert_eq!(ended.text("reason").unwrap(), "worker_lost");
    }
    eventually("the calls being forgotten and the worker replaced", SOON, async || {
        anyhow::ensure!(calls.all().len() == kept.len() && sfu.is_whole());
        Ok(())
    })
    .await
    .unwrap();
    for name in &kept {
        assert_ne!(host_of(name), doomed);
        assert!(facts.of_call(name).await.unwrap().is_empty(), "{name} goes on");
    }
    // The one in its place has the fewest calls, so the next call goes there.
    calls.open(parties("call_5"), TraceParent::generate()).await.unwrap();
    assert!(host_of("call_5") > 2, "a new name for a new worker");

    over.cancel();
    revival.await.unwrap().unwrap();
}
