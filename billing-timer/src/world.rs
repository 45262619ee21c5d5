//! What billing needs of the world: facts to take in, a stream, a book, leases, parties to tell, and the time.
//!
//! NATS and the machine's clock in the service; a simulated server and clock in `tests/simulation`, which runs everything
//! else here as it is.

use std::fmt::Debug;
use std::sync::Arc;

use contract::buckets::billing_index::ActiveBilling;
use contract::buckets::leases::Leases;
use contract::jetstream::clock::{Clock, SystemClock};
use contract::jetstream::connection::Link;
use contract::jetstream::request;
use contract::jetstream::storage::Storage;
use contract::wire::command::Terminate;
use contract::wire::notice::{self, Notice};
use contract::{CallId, FactStore, Nats, NodeId, Parties, Source};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::intake::feed::{Feed, JetStreamFeed};
use crate::overdue::PATIENCE;

/// All of it, as one instance sees it.
#[derive(Debug, Clone)]
pub struct World {
    /// What time it is, and waiting.
    pub clock: Arc<dyn Clock>,
    /// Whether the server can be reached, and whether something may have been missed.
    pub link: watch::Receiver<Link>,
    /// The stream of facts.
    pub facts: FactStore,
    /// The calls being billed.
    pub book: ActiveBilling,
    /// Who ticks which.
    pub leases: Leases,
    /// Facts as they are delivered.
    pub feed: Arc<dyn Feed>,
    /// What is said without being stored.
    pub voice: Arc<dyn Voice>,
}

/// What is said to others without being stored.
pub trait Voice: Debug + Send + Sync {
    /// Tells both parties; see [`notice::tell`].
    fn tell_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()>;

    /// Asks whoever is free to end a call. What came of it, if it did not.
    fn terminate<'a>(&'a self, call: &'a CallId, terminate: &'a Terminate) -> BoxFuture<'a, Result<(), String>>;
}

impl World {
    /// NATS, and this machine.
    pub fn new(nats: &Nats, storage: &Storage, instance: &NodeId) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            link: nats.link(),
            facts: FactStore::new(nats, storage, Source::new(crate::NAME, instance)),
            book: ActiveBilling::new(storage),
            leases: Leases::new(nats, storage),
            feed: Arc::new(JetStreamFeed {
                nats: nats.clone(),
                calls: storage.calls.clone(),
            }),
            voice: Arc::new(nats.clone()),
        }
    }

    /// Whether the server can be reached at this moment.
    pub(crate) fn is_up(&self) -> bool {
        self.link.borrow().up
    }
}

impl Voice for Nats {
    fn tell_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()> {
        notice::tell_both(&self.notice_publisher, parties, notice).boxed()
    }

    fn terminate<'a>(&'a self, call: &'a CallId, terminate: &'a Terminate) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let answer = request::terminate(&self.client, call, terminate, PATIENCE).await;
            answer.map(|_| ()).map_err(|error| error.to_string())
        }
        .boxed()
    }
}
