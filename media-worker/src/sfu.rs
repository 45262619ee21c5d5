//! The only place that knows mediasoup: its workers, a router for each call, and what clients may ask of one.

mod host;
mod parameters;
mod probe;
mod room;
mod seat;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use contract::Role;
use contract::jetstream::request::{Refusal, RefusalCode};
use mediasoup::prelude::WorkerManager;
use tokio::sync::mpsc;

use crate::detection::FirstPacket;
use crate::liveness::Source;
use host::Host;

pub use probe::Probe;
pub use room::Room;

/// How long the C++ worker may take for one request. It answers within a millisecond, or it is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where media is received.
#[derive(Debug, Clone)]
pub struct SfuSettings {
    /// C++ worker threads.
    pub workers: u16,
    /// Where they listen.
    pub listen_ip: IpAddr,
    /// What clients are told instead.
    pub announced_address: Option<String>,
    /// The first worker's port, 0 for any.
    pub rtc_port: u16,
    /// RFC 7675.
    pub ice_consent_timeout_s: u8,
}

/// Why there is no SFU.
#[derive(Debug, thiserror::Error)]
pub enum SfuError {
    /// The C++ worker did not start.
    #[error("a mediasoup worker does not start: {0}")]
    Worker(#[from] std::io::Error),
    /// It could not listen.
    #[error("a mediasoup worker cannot listen for media: {0}")]
    Listen(String),
}

/// Names a C++ worker; its replacement has another name.
pub type HostId = u64;

/// A C++ worker has died, and every call on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Which.
    pub host: HostId,
    /// Its place, for [`Sfu::revive`].
    pub slot: u16,
    /// As mediasoup says it.
    pub reason: String,
}

/// Who is told what happens in a call's media. Called on mediasoup's own thread: it must neither wait nor panic.
pub trait Observer: Send + Sync {
    /// A producer's first packet with a payload came.
    fn first_packet(&self, source: Source, packet: FirstPacket);
    /// The transport of a producer is gone.
    fn transport_gone(&self, role: Role, source: Source);
}

/// The mediasoup workers of this process.
pub struct Sfu {
    manager: WorkerManager,
    settings: SfuSettings,
    hosts: Mutex<Vec<Option<Arc<Host>>>>,
    deaths: mpsc::Sender<Death>,
    next_host: AtomicU64,
}

impl Sfu {
    /// Starts all workers; deaths are told on the receiver.
    ///
    /// # Errors
    /// One of them does not start, or its port is taken.
    pub async fn start(settings: SfuSettings) -> Result<(Self, mpsc::Receiver<Death>), SfuError> {
        // Each worker dies once, and is replaced only after its death was taken from the queue.
        let (deaths, told) = mpsc::channel(usize::from(settings.workers).max(1));
        let hosts = Mutex::new(vec![None; usize::from(settings.workers)]);
        let sfu = Self {
            manager: WorkerManager::new(),
            settings,
            hosts,
            deaths,
            next_host: AtomicU64::new(1),
        };
        for slot in 0..sfu.settings.workers {
            sfu.revive(slot).await?;
        }
        Ok((sfu, told))
    }

    /// Starts a worker in a dead one's place.
    ///
    /// # Errors
    /// It does not start, or its port is still taken.
    pub async fn revive(&self, slot: u16) -> Result<(), SfuError> {
        let id = self.next_host.fetch_add(1, Ordering::Relaxed);
        let host = Host::start(&self.manager, &self.settings, slot, id, self.deaths.clone()).await?;
        if let Some(place) = self.hosts().get_mut(usize::from(slot)) {
            *place = Some(Arc::new(host));
        }
        Ok(())
    }

    /// Takes a dead worker out of the choice.
    pub fn bury(&self, death: &Death) {
        for place in self.hosts().iter_mut() {
            if place.as_ref().is_some_and(|host| host.id == death.host) {
                *place = None;
            }
        }
    }

    /// How many workers are alive.
    pub fn alive(&self) -> usize {
        self.hosts().iter().flatten().filter(|host| host.is_alive()).count()
    }

    /// Whether all of them are.
    pub fn is_whole(&self) -> bool {
        self.alive() == usize::from(self.settings.workers)
    }

    /// Where media is received, one address a worker.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.hosts().iter().flatten().map(|host| host.address).collect()
    }

    /// A room for a call on the worker that has the fewest.
    ///
    /// # Errors
    /// `internal` if no worker is alive, or it refuses.
    pub async fn room(&self, observer: Weak<dyn Observer>) -> Result<Room, Refusal> {
        let host = self
            .hosts()
            .iter()
            .flatten()
            .filter(|host| host.is_alive())
            .min_by_key(|host| host.rooms())
            .cloned();
        let host = host.ok_or_else(|| Refusal::new(RefusalCode::Internal, "no mediasoup worker is alive"))?;
        Room::open(host, self.settings.ice_consent_timeout_s, observer).await
    }

    fn hosts(&self) -> MutexGuard<'_, Vec<Option<Arc<Host>>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the C++ worker, but not for ever.
async fn patiently<T>(request: impl Future<Output = T>) -> Result<T, Refusal> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(answer) => Ok(answer),
        Err(_) => Err(Refusal::new(
            RefusalCode::Internal,
            "the mediasoup worker does not answer",
        )),
    }
}

/// What the C++ worker thinks wrong is the client's fault; that it cannot be asked is ours.
fn refused(error: mediasoup::worker::RequestError) -> Refusal {
    match error {
        mediasoup::worker::RequestError::Response { reason } => invalid(&reason),
        error => Refusal::new(
            RefusalCode::Internal,
            format!("the mediasoup worker cannot be asked: {error}"),
        ),
    }
}

/// The longest text that goes back with a refusal; it may quote what the client sent.
const MESSAGE_CHARS: usize = 200;

fn invalid(what: &str) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidParameters,
        what.chars().take(MESSAGE_CHARS).collect::<String>(),
    )
}

#[cfg(test)]
mod tests;
