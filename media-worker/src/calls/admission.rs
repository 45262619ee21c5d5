//! Whether this worker accepts new calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::jetstream::request::{Refusal, RefusalCode};
use tokio::sync::watch;

use crate::fact_publisher::Backlog;

/// The conditions under which a new call is accepted.
#[derive(Debug)]
pub struct Admission {
    capacity: usize,
    draining: AtomicBool,
    cordoned: watch::Sender<bool>,
    backlog: Arc<Backlog>,
}

impl Admission {
    pub(super) fn new(capacity: u32, backlog: Arc<Backlog>) -> Self {
        Self {
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            draining: AtomicBool::new(false),
            cordoned: watch::Sender::new(false),
            backlog,
        }
    }

    /// Accepts no new calls from now on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Keeps new calls away, or lets them in again. Only in memory: a restarted process has no reason to stay empty.
    pub(super) fn set_cordoned(&self, cordoned: bool) {
        self.cordoned.send_replace(cordoned);
    }

    /// Whether the worker is cordoned; the receiver sees each command.
    pub fn cordoned(&self) -> watch::Receiver<bool> {
        self.cordoned.subscribe()
    }

    /// Whether the fleet must not place calls here, whatever the number of calls.
    pub fn is_closed(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.backlog.is_nearly_full()
    }

    /// Accepts one more call than the `open` ones.
    ///
    /// # Errors
    /// `draining`, `at_capacity`
    pub(super) fn admit(&self, open: usize) -> Result<(), Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::new(RefusalCode::Draining, "the worker is shutting down"));
        }
        if *self.cordoned.borrow() {
            return Err(Refusal::new(RefusalCode::Draining, "the worker is cordoned"));
        }
        if self.backlog.is_nearly_full() {
            return Err(Refusal::new(RefusalCode::AtCapacity, "too many facts wait for NATS"));
        }
        if open >= self.capacity {
            return Err(Refusal::new(RefusalCode::AtCapacity, "the worker is full"));
        }
        Ok(())
    }
}
