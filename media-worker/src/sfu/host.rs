//! One C++ worker thread with its port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mediasoup::prelude::*;
use mediasoup::worker::WorkerLogLevel;
use tokio::sync::mpsc;

use super::{Death, HostId, SfuError, SfuSettings};

/// A worker thread and the server through which all its transports share one UDP and one TCP port.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) worker: Worker,
    pub(super) server: WebRtcServer,
    pub(super) address: SocketAddr,
    rooms: AtomicUsize,
}

/// A call's place on a host, given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Host>);

impl Host {
    pub(super) async fn start(
        manager: &WorkerManager,
        settings: &SfuSettings,
        slot: u16,
        id: HostId,
        deaths: mpsc::Sender<Death>,
    ) -> Result<Self, SfuError> {
        let mut worker_settings = WorkerSettings::default();
        // Anybody who can reach the port can cause warnings.
        worker_settings.log_level = WorkerLogLevel::Error;
        let worker = manager.create_worker(worker_settings).await?;
        let listen = |protocol| ListenInfo {
            protocol,
            ip: settings.listen_ip,
            announced_address: settings.announced_address.clone(),
            expose_internal_ip: false,
            port: (settings.rtc_port != 0).then(|| settings.rtc_port.saturating_add(slot)),
            port_range: None,
            flags: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        };
        let infos = WebRtcServerListenInfos::new(listen(Protocol::Udp)).insert(listen(Protocol::Tcp));
        let failed = |error: &dyn std::fmt::Display| SfuError::Listen(error.to_string());
        let server = worker
            .create_webrtc_server(WebRtcServerOptions::new(infos))
            .await
            .map_err(|error| failed(&error))?;
        let dump = server.dump().await.map_err(|error| failed(&error))?;
        let socket = dump
            .udp_sockets
            .first()
            .ok_or_else(|| failed(&"it has no UDP socket"))?;
        let address = SocketAddr::new(socket.ip, socket.port);
        worker
            .on_dead(move |status| {
                let reason = status
                    .err()
                    .map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                // The queue has room for each worker's one death.
                let _ = deaths.try_send(Death { host: id, slot, reason });
            })
            .detach();
        tracing::info!(host = id, %address, "a mediasoup worker is up");
        Ok(Self {
            id,
            worker,
            server,
            address,
            rooms: AtomicUsize::new(0),
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.worker.closed()
    }

    pub(super) fn rooms(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }
}

impl Place {
    pub(super) fn take(host: Arc<Host>) -> Self {
        host.rooms.fetch_add(1, Ordering::Relaxed);
        Self(host)
    }

    pub(super) fn host(&self) -> &Host {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.rooms.fetch_sub(1, Ordering::Relaxed);
    }
}
