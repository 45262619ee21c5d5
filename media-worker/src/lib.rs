//! The SFU of callpulse: hosts calls on mediasoup, sees the first RTP packet, and stores that as a fact.
//!
//! As a call flows: the worker is found through its [`registration`]; [`commands`] open a call in the table of [`calls`]
//! and build its media in the [`sfu`]; [`detection`] decides which packet connects it; [`sampling`] feeds [`liveness`],
//! which decides whether it still lives; the [`outbox`] writes all of that down, in order. [`revival`] and [`draining`]
//! are about the end: of a mediasoup worker, and of this process.

pub mod settings;

pub mod registration;

pub mod calls;
pub mod commands;
pub mod sfu;

pub mod detection;

pub mod liveness;
pub mod sampling;

pub mod outbox;

pub mod draining;
pub mod revival;

pub mod meters;
pub mod moment;

use std::sync::Arc;
use std::time::Duration;

use contract::buckets::active_calls::ActiveCalls;
use contract::buckets::fleet::Fleet;
use contract::jetstream::storage::Storage;
use contract::{FactStore, Nats, Source, WorkerId};
use service::{BoxError, Shell};
use tokio_util::sync::CancellationToken;

use calls::{Calls, Rules};
use commands::Commands;
use outbox::Post;
use sfu::{Sfu, SfuSettings};

pub use settings::Settings;

/// The service's name.
pub const NAME: &str = "media-worker";

/// Runs a media-worker until it is told to stop and its calls are over.
///
/// # Errors
/// It could not start, or a part of it failed.
pub async fn run(settings: Settings, shell: Shell) -> Result<(), BoxError> {
    let worker_id = settings.worker_id.clone().unwrap_or_else(WorkerId::generate);
    let (link_up, opened) = (shell.health.condition("nats"), shell.health.condition("streams"));
    let whole = shell.health.condition("sfu");

    let (sfu, deaths) = Sfu::start(sfu_settings(&settings)).await?;
    let sfu = Arc::new(sfu);
    whole.set(true);
    let password = settings.nats_password.expose();
    let nats = Nats::connect(&settings.nats, password, &format!("{NAME} {worker_id}")).await?;
    let rtc = sfu.addresses();
    tracing::info!(%worker_id, ?rtc, "receiving media");
    let rtc = rtc.first().map(ToString::to_string).unwrap_or_default();
    shell.announce([("worker_id", worker_id.to_string()), ("rtc", rtc)]);

    let mut tasks = shell.tasks();
    let (link, stop) = (nats.clone(), shell.stop.clone());
    tasks.spawn("link", async move {
        let following = link.follow_link(|up| link_up.set(up));
        stop.run_until_cancelled(following).await.unwrap_or(Ok(()))
    });
    let storage = match shell
        .stop
        .run_until_cancelled(Storage::open_when_available(&nats))
        .await
    {
        Some(storage) => storage?,
        None => return Ok(()),
    };

    let facts = FactStore::new(&nats, &storage, Source::new(NAME, &worker_id));
    let active = ActiveCalls::new(&storage, facts.clone());
    let post = Arc::new(Post::new(
        nats.clone(),
        facts,
        active,
        worker_id.clone(),
        settings.outbox_capacity,
    ));
    let rules = Rules {
        worker_id: worker_id.clone(),
        capacity: settings.capacity,
        connect_policy: settings.connect_policy,
        limits: settings.limits(),
    };
    let calls = Calls::new(rules, Arc::clone(&sfu), Arc::clone(&post));
    let commands = Commands::register(nats.clone(), Arc::clone(&calls)).await?;
    // Whoever is told that the worker is ready may ask it at once.
    if let Some(Err(error)) = shell.stop.run_until_cancelled(nats.client.flush()).await {
        tracing::warn!(%error, "commands arrive as soon as the connection is back");
    }
    opened.set(true);
    let fleet = Fleet::new(&storage);

    // Draining needs all of them, so they end when it says so and not when the stop is asked for.
    let (stop, over) = (shell.stop.clone(), CancellationToken::new());
    let (heartbeat, drain) = (settings.heartbeat_interval_ms, settings.shell.drain_timeout_ms);
    let (heartbeat, drain) = (Duration::from_millis(heartbeat), Duration::from_millis(drain));
    tasks.spawn("commands", commands.run(over.clone()));
    tasks.spawn(
        "registration",
        registration::run(
            nats.clone(),
            fleet.clone(),
            Arc::clone(&calls),
            heartbeat,
            stop.clone(),
            over.clone(),
        ),
    );
    tasks.spawn("sampling", sampling::run(Arc::clone(&calls), over.clone()));
    tasks.spawn(
        "revival",
        revival::run(sfu, Arc::clone(&calls), deaths, whole, over.clone()),
    );
    tasks.spawn("draining", draining::run(calls, drain, stop, over));
    let outcome = tasks.join().await;
    let facts = post.waiting();
    if facts > 0 {
        tracing::error!(
            facts,
            "facts that NATS did not store in time are lost with this process"
        );
    }

    let withdrawn = shell.drain("fleet", fleet.withdraw(&worker_id)).await;
    if let Some(Err(error)) = withdrawn {
        tracing::warn!(%error, "not withdrawn from the fleet: the entry expires");
    }
    if let Some(Err(error)) = shell.drain("nats", nats.client.flush()).await {
        tracing::warn!(%error, "the last messages may be lost");
    }
    Ok(outcome?)
}

fn sfu_settings(settings: &Settings) -> SfuSettings {
    SfuSettings {
        workers: settings.mediasoup_workers,
        listen_ip: settings.listen_ip,
        announced_address: settings.announced_address.clone(),
        rtc_port: settings.rtc_port,
        ice_consent_timeout_s: settings.ice_consent_timeout_s,
    }
}
