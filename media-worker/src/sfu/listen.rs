//! The addresses and ports on which a mediasoup worker receives media.

use std::net::IpAddr;

use mediasoup::prelude::*;

/// Where media is received.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// The local address.
    pub ip: IpAddr,
    /// The address in ICE candidates, if clients reach this one by another.
    pub announced_address: Option<String>,
    /// The port of the first worker, the others follow; 0 takes free ports.
    pub first_port: u16,
}

impl ListenSettings {
    /// UDP and TCP on the port of the worker in `slot`.
    pub(super) fn listen_infos(&self, slot: u16) -> WebRtcServerListenInfos {
        let info = |protocol| ListenInfo {
            protocol,
            ip: self.ip,
            announced_address: self.announced_address.clone(),
            expose_internal_ip: false,
            port: (self.first_port != 0).then(|| self.first_port.saturating_add(slot)),
            port_range: None,
            flags: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        };
        WebRtcServerListenInfos::new(info(Protocol::Udp)).insert(info(Protocol::Tcp))
    }
}
