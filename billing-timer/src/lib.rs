//! `billing-timer`: minute ticks and settlements.
//!
//! The path of a call:
//!
//! 1. [`fact_source`] delivers `rtp_detected` and `ended`; the consumer writes them to the bucket `billing_active`.
//! 2. The index watcher forwards every change of the bucket to the ticker.
//! 3. The ticker asks the scheduler ([`domain`]) which ticks are due, and publishes them as batches in which each tick has a
//!    publish condition.
//! 4. When the call is over, the ticker stores its settlement, sends the notice and removes the entry.
//!
//! Several instances share the calls by leases on partitions (bucket `billing_leases`): each watches all entries, and ticks the
//! calls of the partitions that it holds.
//!
//! All state here is derived from the stream: after a restart an instance reads the bucket and each call's last tick. No
//! minute is lost, because the entry remains until the settlement is stored. No minute is doubled, because each tick names
//! the sequence of the call's last fact: the server rejects ticks that follow another instance's tick or the settlement.

pub mod settings;

pub mod deps;

pub mod fact_source;

mod consumer;

mod index_watcher;

mod lease_manager;

pub mod server_clock;

mod leader_time;

mod ticker;

pub mod domain;

pub mod notices;
pub mod termination;

pub mod reconcile;

mod backoff;
mod metrics;
mod nats_state;
#[cfg(test)]
mod testing;

use std::sync::atomic::AtomicBool;

use contract::buckets::billing_leases::Process;
use contract::jetstream::storage::Storage;
use contract::{Nats, NodeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use service::{BoxError, Health, ServiceContext};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::consumer::FactConsumer;
use crate::deps::Deps;
use crate::domain::partition::HeldPartitions;
use crate::index_watcher::IndexWatcher;
use crate::lease_manager::LeaseManager;
pub use crate::settings::Settings;
use crate::ticker::Ticker;

/// The service's name in facts and logs.
pub const NAME: &str = "billing-timer";

/// Readiness conditions of the tasks: facts are consumed, the bucket is watched, the leases are renewed.
const TASK_CONDITIONS: [&str; 3] = [CONSUMING, WATCHING, RENEWING];
const CONSUMING: &str = "consumer";
const WATCHING: &str = "billing_active";
const RENEWING: &str = "leases";

/// Runs the service until its context is stopped.
///
/// # Errors
/// The NATS address is invalid, a stream or bucket differs from what this version needs, or a task ended by itself.
pub async fn run(settings: Settings, context: ServiceContext) -> Result<(), BoxError> {
    let instance = match &settings.instance_id {
        Some(instance) => instance.clone(),
        None => NodeId::generate("billing")?,
    };
    metrics::register();
    let connected = context.health.condition("nats");
    let stored = context.health.condition("streams");
    // Registered before the tasks start, so that the service is not ready before they are.
    TASK_CONDITIONS
        .iter()
        .for_each(|name| drop(context.health.condition(name)));

    let password = settings.nats_password.expose();
    let nats = Nats::connect(&settings.nats, password, &format!("{NAME} {instance}")).await?;
    let mut tasks = context.tasks();
    let connection = nats.clone();
    tasks.spawn_until_stop("connection", async move {
        connection.report_connected(|up| connected.set(up)).await
    });
    context.announce([("instance_id", instance.to_string())]);

    let Some(storage) = context
        .stop
        .run_until_cancelled(Storage::open_when_available(&nats))
        .await
    else {
        return Ok(tasks.join().await?);
    };
    let storage = storage?;
    stored.set(true);
    let following = storage.clone().follow(nats.clone(), move |holds| stored.set(holds));
    tasks.spawn_until_stop("storage", following);

    let deps = Deps::new(&nats, &storage, &instance);
    for (name, task) in self::tasks(&deps, &settings, &instance, &context.health, &context.stop) {
        tasks.spawn(name, task);
    }
    let outcome = tasks.join().await;

    if nats.state().borrow().connected {
        let flushed = context.drain("nats", nats.client.flush()).await;
        if let Some(Err(error)) = flushed {
            tracing::warn!(%error, "flush failed at shutdown: the last notices may not have been sent");
        }
    }
    Ok(outcome?)
}

/// The tasks of an instance, by name. Each runs until `stop` and then finishes its work in progress.
pub fn tasks(
    deps: &Deps,
    settings: &Settings,
    instance: &NodeId,
    health: &Health,
    stop: &CancellationToken,
) -> [(&'static str, BoxFuture<'static, Result<(), BoxError>>); 5] {
    let (held_sender, held) = watch::channel(HeldPartitions::default());
    let (change_sender, changes) = mpsc::channel(index_watcher::INDEX_CHANGE_CAPACITY);
    let consumer = FactConsumer {
        deps: deps.clone(),
        settings: settings.consumer,
        consuming: health.condition(CONSUMING),
    };
    let watcher = IndexWatcher {
        deps: deps.clone(),
        watching: health.condition(WATCHING),
        changes: change_sender,
    };
    let leases = LeaseManager {
        deps: deps.clone(),
        instance: instance.clone(),
        process: Process::new(deps.clock.now()),
        ttl: settings.lease_ttl(),
        heartbeat_valid: health.condition(RENEWING),
        held: held_sender,
        can_bill: AtomicBool::new(true),
    };
    let ticker = Ticker {
        deps: deps.clone(),
        terms: settings.terms(),
        changes,
        held,
    };
    [
        ("consumer", consumer.run(stop.clone()).boxed()),
        ("index_watcher", watcher.run(stop.clone()).boxed()),
        ("lease_manager", leases.run(stop.clone()).boxed()),
        ("server_clock", leader_time::follow(deps.clone(), stop.clone()).boxed()),
        ("ticker", ticker.run(stop.clone()).boxed()),
    ]
}
