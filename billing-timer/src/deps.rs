//! The ports through which the service reaches NATS and the clock.
//!
//! [`Deps::new`] connects them to NATS and the system clock. `tests/simulation` connects the same code to a simulated server
//! and simulated clocks.

use std::sync::Arc;

use contract::buckets::billing_active::ActiveBilling;
use contract::buckets::billing_leases::Leases;
use contract::jetstream::clock::{Clock, SystemClock};
use contract::jetstream::connection_state::ConnectionState;
use contract::jetstream::storage::Storage;
use contract::{FactStore, Nats, NodeId, Source, Timestamp};
use tokio::sync::watch;

use crate::fact_source::{FactSource, JetStreamSource};
use crate::notices::Notices;
use crate::server_clock::ServerClock;
use crate::termination::Terminations;

/// The dependencies of one instance.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Wall clock, monotonic clock, timers.
    pub clock: Arc<dyn Clock>,
    /// The server's clock, which ticks wait for.
    pub server_clock: ServerClock,
    /// Whether NATS is connected, and how often messages may have been missed.
    pub nats_state: watch::Receiver<ConnectionState>,
    /// The stream `CALLS`.
    pub facts: FactStore,
    /// The bucket `billing_active`.
    pub active_billing: ActiveBilling,
    /// The bucket `billing_leases`.
    pub leases: Leases,
    /// The durable consumer.
    pub fact_source: Arc<dyn FactSource>,
    /// Notices to the parties of a call.
    pub notices: Arc<dyn Notices>,
    /// Requests to end a call.
    pub terminations: Arc<dyn Terminations>,
}

impl Deps {
    /// NATS and the system clock.
    pub fn new(nats: &Nats, storage: &Storage, instance: &NodeId) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            server_clock: ServerClock::default(),
            nats_state: nats.state(),
            facts: FactStore::new(nats, storage, Source::new(crate::NAME, instance)),
            active_billing: ActiveBilling::new(nats, storage),
            leases: Leases::new(nats, storage),
            fact_source: Arc::new(JetStreamSource {
                nats: nats.clone(),
                calls: storage.calls.clone(),
            }),
            notices: Arc::new(nats.clone()),
            terminations: Arc::new(nats.clone()),
        }
    }

    /// The time by the server's clock. By the wall clock until it is known; until then, no call is ticked.
    pub(crate) fn server_now(&self) -> Timestamp {
        let now = self.server_clock.at(self.clock.instant());
        now.unwrap_or_else(|| self.clock.now())
    }

    /// Whether NATS is connected at this moment.
    pub(crate) fn is_up(&self) -> bool {
        self.nats_state.borrow().connected
    }
}
