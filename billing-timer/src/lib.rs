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
//! tick names the sequence of the one before it, and the server lets one through.

pub mod settings;

pub mod intake;

mod book;
mod leases;
mod ticker;

mod batch;
mod closing;
mod overdue;
mod position;

pub mod domain;

mod backoff;
mod link;
mod metrics;
#[cfg(test)]
mod testing;

use nats::billing_book::BillingBook;
use nats::leases::Leases;
use nats::storage::Storage;
use nats::{FactStore, Nats, NodeId, Source};
use service::{BoxError, Shell};
use tokio::sync::{mpsc, watch};

use crate::book::Follower;
use crate::domain::partition::Holding;
use crate::intake::Intake;
use crate::leases::Tenant;
pub use crate::settings::Settings;
use crate::ticker::Ticker;

/// The package's name, as facts and logs bear it.
pub const NAME: &str = "billing-timer";

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
    let consuming = shell.health.condition("consumer");
    let following = shell.health.condition("book");
    let announced = shell.health.condition("leases");

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

    let facts = FactStore::new(&nats, &storage, Source::new(NAME, &instance));
    let book = BillingBook::new(&storage);
    let (holder, holding) = watch::channel(Holding::default());
    let (sender, news) = mpsc::channel(book::NEWS_CAPACITY);
    let intake = Intake::new(&nats, &storage, &facts, settings.intake, consuming);
    let follower = Follower {
        nats: nats.clone(),
        book: book.clone(),
        following,
        news: sender,
    };
    let tenant = Tenant {
        nats: nats.clone(),
        leases: Leases::new(&nats, &storage),
        instance,
        ttl: settings.lease_ttl(),
        announced,
        holding: holder,
    };
    let ticker = Ticker {
        nats: nats.clone(),
        facts,
        book,
        terms: settings.terms(),
        news,
        holding,
    };
    tasks.spawn("intake", intake.run(shell.stop.clone()));
    tasks.spawn("book", follower.run(shell.stop.clone()));
    tasks.spawn("leases", tenant.run(shell.stop.clone()));
    tasks.spawn("ticker", ticker.run(shell.stop.clone()));
    let outcome = tasks.join().await;

    if nats.link().borrow().up {
        let flushed = shell.drain("nats", nats.client.flush()).await;
        if let Some(Err(error)) = flushed {
            tracing::warn!(%error, "the last notices may not have been sent");
        }
    }
    Ok(outcome?)
}
