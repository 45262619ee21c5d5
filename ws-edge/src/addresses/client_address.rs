//! The address of a client: the peer of its connection or, behind a trusted proxy, the one that the proxy reports.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An address, or a network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| address());
        let network = network.map_err(|_| "expected an address or a network such as 10.0.0.0/8".to_owned())?;
        // Addresses are compared in their canonical form.
        match network.addr().to_canonical() {
            IpAddr::V4(_) if network.addr().is_ipv6() => Err("write an IPv4 network without ::ffff:".to_owned()),
            _ => Ok(Self(network)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The header in which a proxy reports the address of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// Which proxies are believed, and in which header. The other header is ignored: any client could have sent it.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Proxies in `networks`, which set `header`.
    pub fn new(networks: Vec<Network>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Whether an address is a proxy's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.0.contains(&address))
    }

    /// The last address on the way from the client that is not a trusted proxy's. Every proxy appends its peer, so that the
    /// entries before that one may be the client's invention. An entry that is no address ends the search at the proxy that
    /// reported it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut reported = self.reported(headers);
        while self.contains(client) {
            match reported.pop() {
                Some(Some(address)) => client = address.to_canonical(),
                Some(None) | None => break,
            }
        }
        client
    }

    /// The reported addresses, the client's first; `None` for an entry that is no address.
    fn reported(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name = match self.header {
            ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedHeader::Forwarded => FORWARDED,
        };
        let lines = headers.get_all(name).into_iter();
        let lines = lines.map(|line| line.to_str().unwrap_or("unreadable"));
        lines
            .flat_map(|line| split(line, ','))
            .map(|entry| match self.header {
                ForwardedHeader::XForwardedFor => node(entry.trim()),
                ForwardedHeader::Forwarded => node(&forwarded_for(entry)?),
            })
            .collect()
    }
}

/// Splits where `separator` stands outside of quotes (RFC 9110 section 5.6.4).
fn split(line: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |found: char| {
        let is_separator = found == separator && !quoted;
        match found {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        is_separator
    })
    .collect()
}

/// The value of `for` in an element of `Forwarded`, without its quotes.
fn forwarded_for(element: &str) -> Option<String> {
    split(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim().trim_matches('"').replace('\\', "");
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// An address with or without a port; an IPv6 address with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[&'static str]) -> String {
        let networks = ["10.0.0.0/8", "192.0.2.1", "2001:db8:ffff::/48"];
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = match header {
                ForwardedHeader::XForwardedFor => "x-forwarded-for",
                ForwardedHeader::Forwarded => "forwarded",
            };
            headers.append(name, HeaderValue::from_static(line));
        }
        let proxies = TrustedProxies::new(networks, header);
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let client = |peer, lines: &[_]| client(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(client("203.0.113.9", &["198.51.100.7"]), "203.0.113.9");
        assert_eq!(client("10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn entries_that_a_client_may_have_invented_are_not_believed() {
        let client = |lines: &[_]| client(ForwardedHeader::XForwardedFor, "10.1.2.3", lines);
        assert_eq!(client(&["1.1.1.1, 198.51.100.7, 192.0.2.1"]), "198.51.100.7");
        assert_eq!(client(&["1.1.1.1", "198.51.100.7:4711", "10.9.9.9"]), "198.51.100.7");
        assert_eq!(client(&["1.1.1.1, unknown"]), "10.1.2.3");
        assert_eq!(client(&["1.1.1.1, , 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&["10.0.0.1, 10.0.0.2"]), "10.0.0.1");
        assert_eq!(client(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client(&["[2001:db8::1]:443, 2001:db8:ffff::9"]), "2001:db8::1");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        let client = |lines: &[_]| client(ForwardedHeader::Forwarded, "10.1.2.3", lines);
        assert_eq!(client(&["for=198.51.100.7;proto=https;by=10.1.2.3"]), "198.51.100.7");
        assert_eq!(client(&["proto=http; For=\"[2001:db8::1]:4711\""]), "2001:db8::1");
        assert_eq!(
            client(&["for=1.1.1.1, for=198.51.100.7;host=\"a, b;c\""]),
            "198.51.100.7"
        );
        assert_eq!(client(&["for=1.1.1.1, for=_hidden"]), "10.1.2.3");
        assert_eq!(client(&["for=1.1.1.1, proto=https"]), "10.1.2.3");
        assert_eq!(client(&["for=198.51.100.7", "for=\"10.0.0.7:80\""]), "198.51.100.7");
    }

    #[test]
    fn networks_are_addresses_or_cidr() {
        for (text, is_network) in [
            ("10.0.0.0/8", true),
            ("::1", true),
            ("fd00::/8", true),
            ("10.0.0.0/33", false),
            ("::ffff:10.0.0.0/104", false),
            ("::ffff:10.0.0.1", false),
            ("proxy.example", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Network>().is_ok(), is_network, "{text}");
        }
    }
}
