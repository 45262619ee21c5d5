//! TURN servers for clients whose networks pass no UDP, with credentials that expire.
//!
//! The TURN REST scheme (draft-uberti-behave-turn-rest-00), which coturn calls `use-auth-secret`: the username is a time and a
//! name, the credential its HMAC-SHA1. The servers need no list of users.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contract::Timestamp;
use contract::wire::request::IceServer;
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::Secret;
use sha1::Sha1;

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

/// The configured TURN servers.
#[derive(Debug, Clone)]
pub struct TurnServers {
    settings: TurnSettings,
}

impl TurnServers {
    /// None if no server is configured.
    pub fn new(settings: &TurnSettings) -> Option<Self> {
        let settings = settings.clone();
        (!settings.urls.is_empty()).then_some(Self { settings })
    }

    /// The servers, for one party.
    pub fn for_party(&self, party_id: &str, now: Timestamp) -> Vec<IceServer> {
        let expires_at = now.plus(Duration::from_secs(self.settings.lifetime_s));
        let username = format!("{}:{party_id}", expires_at.as_millis() / 1_000);
        let credential = credential(self.settings.secret.expose(), &username);
        vec![IceServer {
            urls: self.settings.urls.clone(),
            username,
            credential,
        }]
    }
}

fn credential(secret: &str, username: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Whether it is a URL of RFC 7065: scheme, host, and perhaps a port and a transport.
pub fn is_turn_url(url: &str) -> bool {
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
    use super::*;

    #[test]
    fn the_credential_is_the_hmac_of_a_name_that_expires() {
        let settings = TurnSettings {
            urls: vec!["turns:turn.example:443?transport=tcp".to_owned()],
            secret: Secret::new("north".to_owned()),
            lifetime_s: 600,
        };
        let servers = TurnServers::new(&settings).unwrap();
        let now = Timestamp::from_millis(1_433_065_316_900).unwrap();
        let [server] = servers.for_party("user_001", now).try_into().unwrap();
        assert_eq!(server.urls, settings.urls);
        assert_eq!(server.username, "1433065916:user_001");
        // printf 1433065916:user_001 | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(server.credential, "Ro+0Hungu65g47PzqXiQmih2N9k=");
        assert!(TurnServers::new(&TurnSettings::default()).is_none());
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
