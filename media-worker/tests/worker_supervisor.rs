//! A mediasoup worker dies: its calls end as `worker_lost`, other calls go on, and a replacement starts.
//!
//! The SFU, its calls and the nats-server are real. Only the death is simulated, with a message on the channel that
//! mediasoup's `on_dead` fills: a worker thread dies only of a failed assertion, and a test cannot provoke one.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;
use std::time::Duration;

use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::wait::eventually;
use contract::buckets::active_calls::ActiveCalls;
use contract::jetstream::storage::Storage;
use contract::{CallId, FactStore, Nats, NatsSettings, Parties, Source, TraceParent};
use media_worker::calls::{Calls, HostSettings};
use media_worker::clock_reading::ClockReading;
use media_worker::detection::ConnectPolicy;
use media_worker::fact_publisher::{Backlog, Deps};
use media_worker::liveness::MediaTimeouts;
use media_worker::sfu::{DeadWorker, ListenAddress, ListenSettings, SfuSettings, WorkerPool};
use media_worker::worker_supervisor;
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

async fn calls_on(nats: &Nats, pool: &Arc<WorkerPool>) -> Arc<Calls> {
    let storage = Storage::open_when_available(nats).await.unwrap();
    let facts = FactStore::new(nats, &storage, Source::new("media-worker", "mw_1"));
    let timeouts = MediaTimeouts {
        media_timeout: Duration::from_secs(60),
        lost_after: Duration::from_secs(5),
        rtp_timeout: Duration::from_secs(15),
        one_sided_timeout: None,
        sample_interval: Duration::from_secs(1),
    };
    let settings = HostSettings {
        worker_id: "mw_1".parse().unwrap(),
        started: ClockReading::now(),
        capacity: 100,
        connect_policy: ConnectPolicy::FirstRtp,
        timeouts,
        credit: media_worker::Settings::default().credit(),
    };
    let publisher = Deps {
        nats: nats.clone(),
        active_calls: ActiveCalls::new(&storage, facts.clone()),
        facts,
        worker_id: settings.worker_id.clone(),
        backlog: Arc::new(Backlog::new(1_000)),
    };
    Calls::new(settings, Arc::clone(pool), Arc::new(publisher))
}

#[tokio::test]
async fn the_calls_of_a_dead_worker_end_and_a_replacement_starts() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start(folder.path(), Sync::Lazy).await.unwrap();
    let settings = NatsSettings {
        url: server.url(),
        ..NatsSettings::default()
    };
    let nats = Nats::connect(&settings, "", "test").await.unwrap();
    let (pool, _deaths) = WorkerPool::start(SfuSettings {
        tcp_connections: 1,
        workers: 2,
        listen: ListenSettings {
            addresses: vec![ListenAddress::default()],
            first_port: 0,
            tcp: false,
        },
        ice_consent_timeout_s: 30,
    })
    .await
    .unwrap();
    let pool = Arc::new(pool);
    let calls = calls_on(&nats, &pool).await;
    let names = ["call_1", "call_2", "call_3", "call_4"];
    for name in names {
        calls
            .open(parties(name), None, None, TraceParent::generate())
            .await
            .unwrap();
    }
    let worker_of = |name: &str| {
        calls
            .find(&name.parse::<CallId>().unwrap())
            .unwrap()
            .sfu_worker()
            .unwrap()
    };
    let dead = worker_of("call_1");
    let (lost, kept): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| worker_of(name) == dead);
    assert_eq!((lost.len(), kept.len()), (2, 2), "calls go where the fewest are");

    let (deaths, received) = mpsc::channel(1);
    let (all_alive, drained) = (Health::default().condition("sfu"), CancellationToken::new());
    let supervisor = tokio::spawn(worker_supervisor::run(
        Arc::clone(&pool),
        Arc::clone(&calls),
        received,
        all_alive,
        drained.clone(),
    ));
    let reason = "an assertion failed".to_owned();
    let slot = u16::try_from(dead - 1).unwrap(); // identifiers start at 1, in the order of the slots
    deaths.send(DeadWorker { id: dead, slot, reason }).await.unwrap();

    let facts = Facts::connect(&server.url()).await.unwrap();
    for name in &lost {
        let ended = facts.expect(name, "ended", SOON).await.unwrap();
        assert_eq!(ended.text("reason").unwrap(), "worker_lost");
    }
    eventually("the calls are removed and the worker is replaced", SOON, async || {
        anyhow::ensure!(calls.all().len() == kept.len() && pool.is_complete());
        Ok(())
    })
    .await
    .unwrap();
    for name in &kept {
        assert_ne!(worker_of(name), dead);
        assert!(facts.of_call(name).await.unwrap().is_empty(), "{name} goes on");
    }
    // The replacement has the fewest calls, so the next call goes there.
    calls
        .open(parties("call_5"), None, None, TraceParent::generate())
        .await
        .unwrap();
    assert!(worker_of("call_5") > 2, "the replacement has an identifier of its own");

    drained.cancel();
    supervisor.await.unwrap().unwrap();
}
