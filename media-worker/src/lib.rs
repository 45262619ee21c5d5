//! The SFU of callpulse: hosts calls on mediasoup, sees the first RTP packet, and stores that as a fact.
//!
//! As a call flows: edges find the worker by its [`heartbeat`]; [`commands`] open a call in the table of [`calls`] and
//! build its media in the [`sfu`]; [`detection`] decides which packet connects it; [`sampling`] feeds [`liveness`], which
//! decides whether its media is alive; the [`credit_timer`](calls) stops it when the granted [`credit`] is used up; the [`fact_publisher`] stores its facts in order. The [`worker_supervisor`]
//! replaces dead mediasoup workers, and [`draining`] ends the process.

pub mod settings;

pub mod heartbeat;

pub mod calls;
pub mod commands;
pub mod sfu;

pub mod detection;

pub mod liveness;
pub mod sampling;

pub mod credit;

pub mod fact_publisher;

pub mod draining;
pub mod worker_supervisor;

pub mod clock_reading;
pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use contract::buckets::active_calls::ActiveCalls;
use contract::buckets::last_heartbeats::LastHeartbeats;
use contract::buckets::media_workers::MediaWorkers;
use contract::jetstream::storage::Storage;
use contract::{FactStore, Nats, Source, WorkerId};
use service::{BoxError, ServiceContext};
use tokio_util::sync::CancellationToken;

use calls::{Calls, HostSettings};
use clock_reading::ClockReading;
use commands::Commands;
use fact_publisher::Backlog;
use heartbeat::{Claim, Heartbeat};
use sfu::{ListenSettings, SfuSettings, WorkerPool};

pub use settings::Settings;

/// The service's name.
pub const NAME: &str = "media-worker";

/// Runs a media-worker until it is stopped and its calls are over.
///
/// # Errors
/// It could not start, or one of its tasks failed.
pub async fn run(settings: Settings, context: ServiceContext) -> Result<(), BoxError> {
    metrics::register(settings.capacity);
    let worker_id = settings.worker_id.clone().unwrap_or_else(WorkerId::generate);
    let (is_connected, streams_open) = (context.health.condition("nats"), context.health.condition("streams"));
    let sfu_complete = context.health.condition("sfu");

    let (pool, deaths) = WorkerPool::start(sfu_settings(&settings)).await?;
    let pool = Arc::new(pool);
    sfu_complete.set(true);
    let password = settings.nats_password.expose();
    let nats = Nats::connect(&settings.nats, password, &format!("{NAME} {worker_id}")).await?;
    let rtc = pool.addresses();
    tracing::info!(%worker_id, ?rtc, "receiving media");
    let rtc = rtc.first().map(ToString::to_string).unwrap_or_default();
    context.announce([("worker_id", worker_id.to_string()), ("rtc", rtc)]);

    let mut tasks = context.tasks();
    let connection = nats.clone();
    tasks.spawn_until_stop("connection", async move {
        connection.report_connected(|up| is_connected.set(up)).await
    });
    let opening = Storage::open_when_available(&nats);
    let Some(storage) = context.stop.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let storage = storage?;

    let facts = FactStore::new(&nats, &storage, Source::new(NAME, &worker_id));
    let backlog = Arc::new(Backlog::new(settings.fact_queue_capacity));
    let publisher = fact_publisher::Deps {
        nats: nats.clone(),
        facts: facts.clone(),
        active_calls: ActiveCalls::new(&storage, facts.clone()),
        worker_id: worker_id.clone(),
        backlog: Arc::clone(&backlog),
    };
    let call_settings = HostSettings {
        worker_id: worker_id.clone(),
        started: ClockReading::now(),
        capacity: settings.capacity,
        connect_policy: settings.connect_policy,
        timeouts: settings.media_timeouts(),
        credit: settings.credit(),
    };
    let started_at = call_settings.started.wall;
    let calls = Calls::new(call_settings, Arc::clone(&pool), Arc::new(publisher));
    let media_workers = MediaWorkers::new(&storage);
    // Before the commands: those of another process with this ID must not come here.
    let claiming = Claim::take(&nats, &media_workers, &calls);
    let Some(claim) = context.stop.run_until_cancelled(claiming).await else {
        return Ok(());
    };
    let claim = claim?;
    let commands = Commands::register(nats.clone(), Arc::clone(&calls)).await?;
    // Before readiness: an edge may send a command as soon as the worker is ready.
    if let Some(Err(error)) = context.stop.run_until_cancelled(nats.client.flush()).await {
        tracing::warn!(%error, "connection lost: commands arrive once it is back");
    }
    streams_open.set(true);
    let last_heartbeats = LastHeartbeats::new(&nats, &storage);
    let following = storage
        .clone()
        .follow(nats.clone(), move |holds| streams_open.set(holds));
    tasks.spawn_until_stop("storage", following);

    // Draining needs every task, so they run until it is finished, and not only until the stop.
    let (stop, drained) = (context.stop.clone(), CancellationToken::new());
    let heartbeat = Heartbeat {
        nats: nats.clone(),
        media_workers: media_workers.clone(),
        claim,
        last_heartbeats,
        facts,
        calls: Arc::clone(&calls),
        interval: Duration::from_millis(settings.heartbeat_interval_ms),
    };
    let drain_timeout = Duration::from_millis(settings.common.drain_timeout_ms);
    tasks.spawn("commands", commands.run(drained.clone()));
    tasks.spawn("heartbeat", heartbeat.run(stop.clone(), drained.clone()));
    tasks.spawn("sampling", sampling::run(Arc::clone(&calls), drained.clone()));
    tasks.spawn(
        "worker_supervisor",
        worker_supervisor::run(pool, Arc::clone(&calls), deaths, sfu_complete, drained.clone()),
    );
    tasks.spawn("draining", draining::run(calls, drain_timeout, stop, drained));
    let outcome = tasks.join().await;
    let waiting = backlog.waiting();
    if waiting > 0 {
        tracing::error!(
            facts = waiting,
            "facts lost with this process: NATS did not store them in time"
        );
    }

    let withdrawn = context
        .drain("fleet", media_workers.withdraw(&worker_id, started_at))
        .await;
    if let Some(Err(error)) = withdrawn {
        tracing::warn!(%error, "not withdrawn from the fleet: the entry expires");
    }
    if let Some(Err(error)) = context.drain("nats", nats.client.flush()).await {
        tracing::warn!(%error, "connection lost: the last messages may be lost");
    }
    Ok(outcome?)
}

/// Transports of a call: one in each direction, for both parties.
const TRANSPORTS_PER_CALL: usize = 4;
/// Descriptors of a relayed connection: to the client, and the two ends of the one to mediasoup.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;

fn sfu_settings(settings: &Settings) -> SfuSettings {
    // At most half of the descriptors: NATS, probes and UDP need some, too.
    let descriptors = service::descriptors::hard_limit().unwrap_or(1_024) / 2 / DESCRIPTORS_PER_CONNECTION;
    let transports = usize::try_from(settings.capacity).unwrap_or(usize::MAX);
    let transports = transports.saturating_mul(TRANSPORTS_PER_CALL);
    SfuSettings {
        tcp_connections: transports.min(usize::try_from(descriptors).unwrap_or(usize::MAX)),
        workers: settings.mediasoup_workers,
        listen: ListenSettings {
            addresses: settings.listen_addresses(),
            first_port: settings.rtc_port,
            tcp: settings.ice_tcp,
        },
        ice_consent_timeout_s: settings.ice_consent_timeout_s,
    }
}
