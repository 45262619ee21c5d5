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
    /// Whether media is received over TCP, too.
    pub tcp: bool,
}

impl ListenSettings {
    /// UDP, and TCP if it is on, on the port of the worker in `slot`.
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
        let udp = WebRtcServerListenInfos::new(info(Protocol::Udp));
        if self.tcp { udp.insert(info(Protocol::Tcp)) } else { udp }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn tcp_is_opened_only_if_it_is_on() {
        let protocols = |tcp| {
            let listen = ListenSettings {
                ip: Ipv4Addr::LOCALHOST.into(),
                announced_address: None,
                first_port: 40_000,
                tcp,
            };
            let infos = listen.listen_infos(1);
            assert!(infos.iter().all(|info| info.port == Some(40_001)));
            infos.iter().map(|info| info.protocol).collect::<Vec<_>>()
        };
        assert_eq!(protocols(false), [Protocol::Udp]);
        assert_eq!(protocols(true), [Protocol::Udp, Protocol::Tcp]);
    }
}
