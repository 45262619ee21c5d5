//! `billing-timer`: minute ticks and settlements.
//!
//! How a call flows through: `rtp_detected` and `ended` come in by [`intake`] and are entered in the book (bucket
//! `billing_active`); the follower of the book tells the ticker; the ticker's ledger ([`domain`]) says what is due; due ticks
//! go out as guarded batches, and a call that is over is closed: settled, told, taken off the book.
//!
//! Several instances share the calls by leases on partitions (bucket `billing_leases`): each follows the whole book, and
//! ticks the calls of the partitions that it holds.
//!
//! What is here is derived. The stream is the truth: a restart reads the book and each call's last tick, and goes on from
//! there. No minute is lost, since the entry stays on the book until the settlement is stored; none is doubled, since each
//! tick names the sequence of the call's last fact, and the server lets one through: none after another owner's, none after
//! the settlement.

pub mod settings;

pub mod intake;

mod book;
mod leases;
mod ticker;

mod batch;
mod closing;
mod overdue;
mod position;

pub mod reconcile;

pub mod domain;

pub mod world;

mod backoff;
mod link;
mod metrics;
#[cfg(test)]
mod testing;

use contract::jetstream::storage::Storage;
use contract::{Nats, NodeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use service::{BoxError, Health, Shell};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::book::Follower;
use crate::domain::partition::Holding;
use crate::intake::Intake;
use crate::leases::Tenant;
pub use crate::settings::Settings;
use crate::ticker::Ticker;
use crate::world::World;

/// The package's name, as facts and logs bear it.
pub const NAME: &str = "billing-timer";

/// What holds while the parts do their work: facts are consumed, the book is followed, the leases are renewed.
const PARTS_READY: [&str; 3] = [CONSUMING, FOLLOWING, ANNOUNCED];
const CONSUMING: &str = "consumer";
const FOLLOWING: &str = "book";
const ANNOUNCED: &str = "leases";

/// Runs the service until its shell is stopped.
///
/// # Errors
/// The NATS address is none, the storage differs from what this version needs, or a task ended by itself.
pub async fn run(settings: Settings, shell: Shell) -> Result<(), BoxError> {
    let instance = match &settings.instance_id {
        Some(instance) => instance.clone(),
        None => NodeId::generate("billing")?,
    };
    let connected = shell.health.condition("nats");
    let stored = shell.health.condition("streams");
    // Known from the start, so that nobody is ready before they hold.
    PARTS_READY.iter().for_each(|name| drop(shell.health.condition(name)));

    let password = settings.nats_password.expose();
    let nats = Nats::connect(&settings.nats, password, &format!("{NAME} {instance}")).await?;
    let mut tasks = shell.tasks();
    let (link, stop) = (nats.clone(), shell.stop.clone());
    tasks.spawn("link", async move {
        let following = link.follow_link(|up| connected.set(up));
        stop.run_until_cancelled(following).await.unwrap_or(Ok(()))
    });
    shell.announce([("instance_id", instance.to_string())]);

    let Some(storage) = shell
        .stop
        .run_until_cancelled(Storage::open_when_available(&nats))
        .await
    else {
        return Ok(tasks.join().await?);
    };
    let storage = storage?;
    stored.set(true);

    let world = World::new(&nats, &storage, &instance);
    for (name, part) in parts(&world, &settings, &instance, &shell.health, &shell.stop) {
        tasks.spawn(name, part);
    }
    let outcome = tasks.join().await;

    if nats.link().borrow().up {
        let flushed = shell.drain("nats", nats.client.flush()).await;
        if let Some(Err(error)) = flushed {
            tracing::warn!(%error, "the last notices may not have been sent");
        }
    }
    Ok(outcome?)
}

/// What runs side by side in an instance, by name: each until `stop`, and then until its work is done.
pub fn parts(
    world: &World,
    settings: &Settings,
    instance: &NodeId,
    health: &Health,
    stop: &CancellationToken,
) -> [(&'static str, BoxFuture<'static, Result<(), BoxError>>); 4] {
    let (holder, holding) = watch::channel(Holding::default());
    let (sender, news) = mpsc::channel(book::NEWS_CAPACITY);
    let intake = Intake {
        world: world.clone(),
        settings: settings.intake,
        consuming: health.condition(CONSUMING),
    };
    let follower = Follower {
        world: world.clone(),
        following: health.condition(FOLLOWING),
        news: sender,
    };
    let tenant = Tenant {
        world: world.clone(),
        instance: instance.clone(),
        ttl: settings.lease_ttl(),
        announced: health.condition(ANNOUNCED),
        holding: holder,
    };
    let ticker = Ticker {
        world: world.clone(),
        terms: settings.terms(),
        news,
        holding,
    };
    [
        ("intake", intake.run(stop.clone()).boxed()),
        ("book", follower.run(stop.clone()).boxed()),
        ("leases", tenant.run(stop.clone()).boxed()),
        ("ticker", ticker.run(stop.clone()).boxed()),
    ]
}
