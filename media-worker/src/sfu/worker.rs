//! One mediasoup worker: a C++ thread with one port, for UDP and, if it is on, TCP.

use std::fmt::Display;
use std::net::SocketAddr;

use mediasoup::prelude::*;
use mediasoup::worker::WorkerLogLevel;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::listen::ListenSettings;
use super::tcp_proxy::{TcpAdmission, TcpProxy};

/// Identifies a mediasoup worker in this process; its replacement has another identifier.
pub type SfuWorkerId = u64;

/// A mediasoup worker that died, and with it every call on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadWorker {
    /// The worker that died.
    pub id: SfuWorkerId,
    /// Its slot in the pool, for the replacement.
    pub slot: u16,
    /// The reason that mediasoup gives.
    pub reason: String,
}

/// The reason why a mediasoup worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerStartError {
    /// The C++ thread did not start.
    #[error("a mediasoup worker does not start: {0}")]
    Worker(#[from] std::io::Error),
    /// Its port cannot be opened.
    #[error("a mediasoup worker cannot listen for media: {0}")]
    Listen(String),
}

/// A mediasoup worker and its WebRTC server, through which all its transports share the ports.
#[derive(Debug)]
pub(super) struct SfuWorker {
    pub(super) id: SfuWorkerId,
    pub(super) worker: Worker,
    pub(super) server: WebRtcServer,
    pub(super) address: SocketAddr,
    /// The ports for media over TCP.
    pub(super) tcp_proxies: Vec<TcpProxy>,
    pub(super) tcp_admission: TcpAdmission,
}

impl SfuWorker {
    /// Starts a worker; `deaths` receives its death.
    pub(super) async fn start(
        manager: &WorkerManager,
        listen: &ListenSettings,
        slot: u16,
        id: SfuWorkerId,
        deaths: mpsc::Sender<DeadWorker>,
        tcp_admission: TcpAdmission,
    ) -> Result<Self, WorkerStartError> {
        let mut settings = WorkerSettings::default();
        // Anyone who can reach the port can cause warnings.
        settings.log_level = WorkerLogLevel::Error;
        let worker = manager.create_worker(settings).await?;
        let failed = |error: &dyn Display| WorkerStartError::Listen(error.to_string());
        let bound = listen.bind_tcp_proxies(slot).await.map_err(|error| failed(&error))?;
        let options = WebRtcServerOptions::new(listen.listen_infos(slot));
        let server = worker.create_webrtc_server(options).await;
        let server = server.map_err(|error| failed(&error))?;
        let dump = server.dump().await.map_err(|error| failed(&error))?;
        let socket = dump.udp_sockets.first();
        let socket = socket.ok_or_else(|| failed(&"it has no UDP socket"))?;
        let address = SocketAddr::new(socket.ip, socket.port);
        // In the order of the listen infos, as the fronts.
        let (alive, inner) = (CancellationToken::new(), dump.tcp_servers.iter());
        let tcp_proxies = bound.into_iter().zip(inner);
        let tcp_proxies = tcp_proxies.map(|(proxy, inner)| proxy.serve(inner.port, tcp_admission.clone(), &alive));
        let tcp_proxies: Vec<TcpProxy> = tcp_proxies.collect();
        worker
            .on_dead(move |status| {
                // Its ports are for the replacement.
                alive.cancel();
                let reason = status
                    .err()
                    .map_or_else(|| "the thread ended".to_owned(), |error| error.to_string());
                // The channel has a place for the one death of each worker.
                let _ = deaths.try_send(DeadWorker { id, slot, reason });
            })
            .detach();
        tracing::info!(sfu_worker = id, %address, "mediasoup worker started");
        Ok(Self {
            id,
            worker,
            server,
            address,
            tcp_proxies,
            tcp_admission,
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.worker.closed()
    }
}
