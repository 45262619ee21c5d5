//! The keys `turn.*`: TURN servers that clients may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::Secret;
use service::settings::{POSITIVE, out_of_range};

/// The keys `turn.*`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TurnSettings {
    /// TURN servers that clients may use, as URLs of RFC 7065: `turn:turn.example:3478`, `turns:turn.example:443?transport=tcp`. With
    /// none, clients reach media-workers directly.
    pub urls: Vec<String>,
    /// Secret shared with these servers (coturn: `static-auth-secret`), from which credentials are derived.
    pub secret: Secret,
    /// Time after which a credential expires. A relayed transport refreshes its allocation with it, so it must be longer than calls.
    pub lifetime_s: u64,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            secret: Secret::default(),
            lifetime_s: 86_400,
        }
    }
}

impl TurnSettings {
    pub(super) fn problems(&self) -> Vec<String> {
        let outside = out_of_range(self, &[("lifetime_s", POSITIVE)]).into_iter();
        let mut wrong: Vec<_> = outside.map(|problem| format!("turn.{problem}")).collect();
        if self.urls.iter().any(|url| !is_turn_url(url)) {
            wrong.push("turn.urls: each must be a URL such as turns:turn.example:443?transport=tcp".to_owned());
        }
        if !self.urls.is_empty() && self.secret.expose().is_empty() {
            wrong.push("turn.secret: set it, or turn.secret_file: turn.urls need credentials".to_owned());
        }
        wrong
    }
}

/// Whether it is a URL of RFC 7065: scheme, host, and perhaps a port and a transport.
fn is_turn_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("turn:").or_else(|| url.strip_prefix("turns:")) else {
        return false;
    };
    let (address, transport) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    // The last colon outside of brackets, which enclose an IPv6 address.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || (is_bracketed && b"[]:".contains(&byte));
    !host.is_empty()
        && host.bytes().all(is_host)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
        && transport.is_none_or(|query| ["transport=udp", "transport=tcp"].contains(&query))
}

#[cfg(test)]
mod tests {
    use service::Secret;

    use super::super::tests::problems;
    use super::is_turn_url;

    #[test]
    fn turn_servers_need_a_secret_and_valid_urls() {
        let with = |url: &str, secret: &str| {
            problems(|settings| {
                settings.turn.urls = vec![url.to_owned()];
                settings.turn.secret = Secret::new(secret.to_owned());
            })
        };
        assert!(with("turn:turn.example", "secret").is_empty());
        assert!(with("turn:turn.example", "")[0].starts_with("turn.secret"));
        assert!(with("stun:turn.example", "secret")[0].starts_with("turn.urls"));
    }

    #[test]
    fn urls_are_of_turn_servers() {
        for url in [
            "turn:turn.example",
            "turns:turn.example:443?transport=tcp",
            "turn:203.0.113.5:3478",
            "turn:[2001:db8::1]:3478?transport=udp",
            "turn:[::1]",
        ] {
            assert!(is_turn_url(url), "{url}");
        }
        for url in [
            "",
            "turn:",
            "stun:turn.example",
            "turn://turn.example",
            "turn:a b",
            "turn:a:0",
            "turn:a:99999",
            "turn:a?transport=sctp",
            "turn:2001:db8::1",
        ] {
            assert!(!is_turn_url(url), "{url}");
        }
    }
}
