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
use sha1::Sha1;

use crate::settings::TurnSettings;

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

#[cfg(test)]
mod tests {
    use service::Secret;

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
}
