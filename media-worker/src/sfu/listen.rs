//! The addresses and ports on which a mediasoup worker receives media.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use mediasoup::prelude::*;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::tcp_proxy::{BoundTcpProxy, INNER_IP};

/// Where media is received.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// At least one address.
    pub addresses: Vec<ListenAddress>,
    /// The port of the first worker, the others follow; 0 takes free ports.
    pub first_port: u16,
    /// Whether media is received over TCP, too.
    pub tcp: bool,
}

/// One local address: `ADDRESS` or `ADDRESS=ANNOUNCED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress {
    /// The local address.
    pub ip: IpAddr,
    /// The address in ICE candidates, if clients reach this one by another.
    pub announced_address: Option<String>,
}

impl ListenSettings {
    /// UDP on every address, on the port of the worker in `slot`; and a TCP port of loopback for each address behind which there is
    /// a [`TcpProxy`](super::tcp_proxy::TcpProxy). ICE prefers earlier ones.
    pub(super) fn listen_infos(&self, slot: u16) -> WebRtcServerListenInfos {
        let udp = |address: &ListenAddress| ListenInfo {
            announced_address: address.announced_address.clone(),
            port: self.port(slot),
            ..any_port(Protocol::Udp, address.ip)
        };
        let tcp = self.tcp_addresses().map(|_| any_port(Protocol::Tcp, INNER_IP));
        let mut all = self.addresses.iter().map(udp).chain(tcp);
        let first = all.next().unwrap_or_else(|| udp(&ListenAddress::default()));
        all.fold(WebRtcServerListenInfos::new(first), WebRtcServerListenInfos::insert)
    }

    /// Binds the TCP ports of the worker in `slot`.
    pub(super) async fn bind_tcp_proxies(&self, slot: u16) -> io::Result<Vec<BoundTcpProxy>> {
        let mut bound = Vec::new();
        for ListenAddress { ip, announced_address } in self.tcp_addresses() {
            let address = SocketAddr::new(*ip, self.port(slot).unwrap_or_default());
            bound.push(BoundTcpProxy::bind(address, announced_address.as_deref()).await?);
        }
        Ok(bound)
    }

    /// The addresses on which media is received over TCP.
    fn tcp_addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.addresses.iter().filter(|_| self.tcp)
    }

    fn port(&self, slot: u16) -> Option<u16> {
        (self.first_port != 0).then(|| self.first_port.saturating_add(slot))
    }
}

fn any_port(protocol: Protocol, ip: IpAddr) -> ListenInfo {
    ListenInfo {
        protocol,
        ip,
        announced_address: None,
        expose_internal_ip: false,
        port: None,
        port_range: None,
        flags: None,
        send_buffer_size: None,
        recv_buffer_size: None,
    }
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self {
            ip: IpAddr::from([127, 0, 0, 1]),
            announced_address: None,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, announced) = match text.split_once('=') {
            Some((ip, announced)) => (ip, Some(announced)),
            None => (text, None),
        };
        let ip = ip.parse().map_err(|_| "expected an IP address, or ADDRESS=ANNOUNCED")?;
        if announced.is_some_and(|it| it.is_empty() || it.contains(char::is_whitespace)) {
            return Err("expected an address or a host name after =".to_owned());
        }
        let announced_address = announced.map(str::to_owned);
        Ok(Self { ip, announced_address })
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.announced_address {
            Some(announced) => write!(f, "{}={announced}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> String {
        address.to_string()
    }
}

impl JsonSchema for ListenAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListenAddress".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_opened_only_if_it_is_on() {
        let protocols = |tcp| {
            let listen = ListenSettings {
                addresses: vec![ListenAddress::default()],
                first_port: 40_000,
                tcp,
            };
            let infos = listen.listen_infos(1);
            infos.iter().map(|info| (info.protocol, info.port)).collect::<Vec<_>>()
        };
        let udp = (Protocol::Udp, Some(40_001));
        assert_eq!(protocols(false), [udp]);
        assert_eq!(protocols(true), [udp, (Protocol::Tcp, None)], "behind a proxy");
    }

    #[test]
    fn an_address_may_have_an_announced_one() {
        for text in [
            "198.51.100.7",
            "2001:db8::1",
            "10.0.0.7=198.51.100.7",
            "::=media.example",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "media.example",
            "10.0.0.7=",
            "10.0.0.7=a b",
            "=10.0.0.7",
            "10.0.0.7:40000",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
