//! The mediasoup workers of this process. A call's router is created on the worker with the fewest calls.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use contract::jetstream::request::{Refusal, RefusalCode};
use mediasoup::prelude::WorkerManager;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Observer;
use super::call_router::CallRouter;
use super::listen::ListenSettings;
use super::tcp_proxy::TcpAdmission;
use super::worker::{DeadWorker, SfuWorker, WorkerStartError};

/// The settings of the SFU.
#[derive(Debug, Clone)]
pub struct SfuSettings {
    /// The number of mediasoup workers.
    pub workers: u16,
    /// Where they receive media.
    pub listen: ListenSettings,
    /// The time without ICE consent after which a transport is disconnected (RFC 7675), in seconds.
    pub ice_consent_timeout_s: u8,
    /// The most connections of media over TCP.
    pub tcp_connections: usize,
}

/// The mediasoup workers of this process.
pub struct WorkerPool {
    manager: WorkerManager,
    settings: SfuSettings,
    /// Every router holds a reference to its worker, so the reference counts tell how many calls a worker has.
    slots: Mutex<Vec<Option<Arc<SfuWorker>>>>,
    deaths: mpsc::Sender<DeadWorker>,
    next_id: AtomicU64,
    tcp_admission: TcpAdmission,
}

impl WorkerPool {
    /// Starts all workers; the receiver yields those that die.
    ///
    /// # Errors
    /// A worker does not start, or its port is taken.
    pub async fn start(settings: SfuSettings) -> Result<(Self, mpsc::Receiver<DeadWorker>), WorkerStartError> {
        // Each worker dies once, and its replacement starts only after the death was received.
        let (deaths, dead) = mpsc::channel(usize::from(settings.workers).max(1));
        let pool = Self {
            manager: WorkerManager::new(),
            slots: Mutex::new(vec![None; usize::from(settings.workers)]),
            tcp_admission: TcpAdmission::new(settings.tcp_connections),
            settings,
            deaths,
            next_id: AtomicU64::new(1),
        };
        for slot in 0..pool.settings.workers {
            pool.start_worker(slot).await?;
        }
        Ok((pool, dead))
    }

    /// Starts a worker in an empty slot.
    ///
    /// # Errors
    /// The worker does not start, or its port is still taken.
    pub async fn start_worker(&self, slot: u16) -> Result<(), WorkerStartError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (listen, deaths) = (&self.settings.listen, self.deaths.clone());
        let worker = SfuWorker::start(&self.manager, listen, slot, id, deaths, self.tcp_admission.clone()).await?;
        if let Some(place) = self.slots.lock().get_mut(usize::from(slot)) {
            *place = Some(Arc::new(worker));
        }
        Ok(())
    }

    /// Removes a dead worker; no call is placed on it any more.
    pub fn remove(&self, dead: &DeadWorker) {
        for slot in self.slots.lock().iter_mut() {
            slot.take_if(|worker| worker.id == dead.id);
        }
    }

    /// The number of workers that are alive.
    pub fn alive(&self) -> usize {
        let slots = self.slots.lock();
        slots.iter().flatten().filter(|worker| worker.is_alive()).count()
    }

    /// Whether all workers are alive.
    pub fn is_complete(&self) -> bool {
        self.alive() == usize::from(self.settings.workers)
    }

    /// The addresses on which media is received, one for each worker.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.slots
            .lock()
            .iter()
            .flatten()
            .map(|worker| worker.address)
            .collect()
    }

    /// Creates the router of a call on the worker with the fewest.
    ///
    /// # Errors
    /// `internal` if no worker is alive, or mediasoup fails.
    pub async fn create_router(&self, observer: Weak<dyn Observer>) -> Result<CallRouter, Refusal> {
        let worker = self
            .slots
            .lock()
            .iter()
            .flatten()
            .filter(|worker| worker.is_alive())
            .min_by_key(|worker| Arc::strong_count(worker))
            .cloned();
        let worker = worker.ok_or_else(|| Refusal::new(RefusalCode::Internal, "no mediasoup worker is alive"))?;
        CallRouter::create(worker, self.settings.ice_consent_timeout_s, observer).await
    }
}
