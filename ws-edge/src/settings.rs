//! Settings of a ws-edge node; environment variables begin with `WS_EDGE__`. Doc comments appear in the configuration reference.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use contract::wire::id::TermsId;
use contract::wire::terms::{Charge, Silence, Terms};
use contract::{NatsSettings, NodeId};
use schemars::JsonSchema;
use serde::de::{Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use service::{CommonSettings, Secret, Validate};

use crate::addresses::client_address::{ForwardedHeader, Network};
use crate::addresses::fetch;
use crate::addresses::origin;
use crate::tls::TlsSettings;
use crate::turn::{TurnSettings, is_turn_url};

/// All keys of `ws-edge`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Address on which WebSockets and pages are served. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// The keys `tls.*`.
    pub tls: TlsSettings,
    /// Name of this node in facts and in the bucket `active_calls`, at most 64 characters of `[A-Za-z0-9_-]`. Null generates one at
    /// every start.
    pub node_id: Option<NodeId>,
    /// The keys `nats.*`.
    pub nats: NatsSettings,
    /// Password of `nats.user`.
    pub nats_password: Secret,
    /// The keys `jwt.*`.
    pub jwt: JwtSettings,
    /// Origins (`https://app.example`) whose pages may connect, in addition to this node's own pages. Clients other than browsers
    /// send no origin and need no entry.
    pub allowed_origins: Vec<String>,
    /// Proxies in front of this node, as addresses or networks (`10.0.0.0/8`). The address that they report in `forwarded_header`
    /// is the client's; from anybody else the header is ignored.
    pub trusted_proxies: Vec<Network>,
    /// The header in which `trusted_proxies` report the address of their client. Each must append to it or replace it.
    pub forwarded_header: ForwardedHeader,
    /// Whether the node serves the built-in pages: `/` for calls, `/ops` for operators.
    pub pages: bool,
    /// Time that a call rings. It then ends with `no_answer`.
    pub ring_timeout_ms: u64,
    /// What happens to a call to an otomo without a socket on any node: `ring`, so that another service can wake the otomo's phone, or
    /// `refuse`, which answers with `otomo_offline` after 1.5 s.
    pub offline_otomo: OfflineOtomo,
    /// Time after a missed deadline of a call until another node ends the call.
    pub takeover_grace_ms: u64,
    /// Time limit for the reply of a media-worker.
    pub command_timeout_ms: u64,
    /// Time limit for JetStream. The client then receives `unavailable` and may retry. A `call_request` is answered within this time,
    /// any other request within this time plus `command_timeout_ms`.
    pub storage_timeout_ms: u64,
    /// The keys `credit.*`.
    pub credit: CreditSettings,
    /// The keys `terms.*`.
    pub terms: TermsSettings,
    /// The keys `turn.*`.
    pub turn: TurnSettings,
    /// The keys `limits.*`.
    pub limits: Limits,
    /// The keys that every service has.
    #[serde(flatten)]
    pub common: CommonSettings,
}

/// The keys `jwt.*`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JwtSettings {
    /// Key shared with the issuer of tokens, at least as long as the hash of `jwt.algorithm` (RFC 7518 section 3.2). It has no
    /// `kid`. Required unless `jwt.key_files` or `jwt.jwks` has keys.
    pub secret: Secret,
    /// The only accepted signature algorithm of tokens signed with `jwt.secret`, regardless of their header: HS256, HS384 or HS512.
    pub algorithm: TokenAlgorithm,
    /// Further keys, each as `KID:ALGORITHM:PATH`: a public key in PEM or, for HS256, HS384 and HS512, a shared key. A token selects
    /// its key by `kid`; the key's algorithm is the only accepted one.
    pub key_files: Vec<KeyFile>,
    /// A JWKS document (RFC 7517) with further keys: the path of a file, or an `https://` URL (`http://` for loopback).
    pub jwks: String,
    /// Interval at which `jwt.key_files` and `jwt.jwks` are read again, from 1 to 86400. If that fails, the last keys stay in use.
    pub refresh_interval_s: u64,
    /// Audience that the claim `aud` of a token must contain.
    pub audience: String,
    /// Tolerated clock difference between issuer and node, at most 5.
    pub leeway_s: u64,
}

/// A file with a key, written as `KID:ALGORITHM:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct KeyFile {
    /// Its identifier, the `kid` of tokens.
    pub id: String,
    /// The only algorithm that it verifies.
    pub algorithm: TokenAlgorithm,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for KeyFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let (Some(id), Some(algorithm), Some(path)) = (part(), part(), part()) else {
            return Err("expected KID:ALGORITHM:PATH".to_owned());
        };
        let algorithm = TokenAlgorithm::deserialize(algorithm.into_deserializer());
        Ok(Self {
            id: id.to_owned(),
            algorithm: algorithm.map_err(|error: serde::de::value::Error| error.to_string())?,
            path: path.into(),
        })
    }
}

impl Serialize for KeyFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!(
            "{}:{:?}:{}",
            self.id,
            self.algorithm,
            self.path.display()
        ))
    }
}

impl<'de> Deserialize<'de> for KeyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Algorithms of signatures (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256
    HS256,
    /// HMAC with SHA-384
    HS384,
    /// HMAC with SHA-512
    HS512,
    /// RSA with SHA-256
    RS256,
    /// ECDSA with P-256 and SHA-256
    ES256,
    /// Ed25519
    EdDSA,
}

/// The fate of a call to an otomo who is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflineOtomo {
    /// It rings until its deadline.
    Ring,
    /// It is refused.
    Refuse,
}

/// The keys `credit.*`: credit control.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreditSettings {
    /// Whether the wallet is asked (`wallet.authorize`) before a call rings.
    pub enabled: bool,
    /// Time limit for the wallet's answer, less than `storage_timeout_ms`. A later answer counts as none.
    pub timeout_ms: u64,
    /// Duration that this node grants itself when the wallet gives no usable answer, a multiple of `terms.interval_ms`. Null denies
    /// the call then.
    pub fallback_grant_ms: Option<u64>,
    /// Longest duration that may be granted, at least `terms.interval_ms`.
    pub max_ms: u64,
}

impl Default for CreditSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            timeout_ms: 2_000,
            fallback_grant_ms: None,
            max_ms: 14_400_000,
        }
    }
}

/// The keys `terms.*`: how calls are billed that are requested from now on. All nodes must have the same values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TermsSettings {
    /// Name of these terms in the facts, at most 64 characters of `[A-Za-z0-9_-]`. Change it whenever another key changes.
    pub id: TermsId,
    /// Length of a billed minute, and of a tick.
    pub interval_ms: u64,
    /// Whether a minute is billed when it is `full` or from its `start`.
    pub charge: Charge,
    /// Time of each call that is not billed.
    pub free_ms: u64,
    /// Shortest time that is billed if the call was connected.
    pub minimum_ms: u64,
    /// Whose silence is not billed: `deduct_otomo`, `deduct_any`, or none (`bill`). Only silence that was declared a loss counts.
    pub silence: Silence,
}

impl Default for TermsSettings {
    fn default() -> Self {
        Self {
            id: DEFAULT_TERMS.clone(),
            interval_ms: 60_000,
            charge: Charge::Full,
            free_ms: 0,
            minimum_ms: 0,
            silence: Silence::DeductOtomo,
        }
    }
}

#[allow(clippy::expect_used, reason = "the text is an identifier")]
static DEFAULT_TERMS: LazyLock<TermsId> = LazyLock::new(|| "standard".parse().expect("an identifier"));

impl From<&TermsSettings> for Terms {
    fn from(settings: &TermsSettings) -> Self {
        Self {
            terms_id: settings.id.clone(),
            interval_ms: settings.interval_ms,
            charge: settings.charge,
            free_ms: settings.free_ms,
            minimum_ms: settings.minimum_ms,
            silence: settings.silence,
        }
    }
}

/// The keys `limits.*`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Largest number of sockets of this node.
    pub connections: usize,
    /// Largest number of connections of one client address (IPv6: one /64 network) to this node. One more is rejected. Loopback
    /// has no limit.
    pub connections_per_address: usize,
    /// Largest number of sockets of one party on this node. One more closes the oldest (4001).
    pub connections_per_party: usize,
    /// Time limit from `accept` to the end of the upgrade, including the wait for the first byte.
    pub handshake_timeout_ms: u64,
    /// Largest message and frame. A larger one closes the socket (1009).
    pub message_bytes: usize,
    /// Read buffer of a socket, allocated while it is open.
    pub read_buffer_bytes: usize,
    /// Send buffer of a socket in the kernel.
    pub send_buffer_bytes: u32,
    /// Largest number of messages queued for a slow client. One more closes its socket (1013).
    pub queued_messages: usize,
    /// Time limit for one write to a socket.
    pub write_timeout_ms: u64,
    /// Time over which the node closes its sockets (1012) when it stops, an equal share at a time, so that clients do not all
    /// connect to other nodes at once. At most half of `drain_timeout_ms`.
    pub close_spread_ms: u64,
    /// Interval of WebSocket pings. A client that is silent for two intervals is disconnected.
    pub ping_interval_ms: u64,
    /// Interval at which clients should send `ping`, so that they notice a dead socket. 0 asks for none.
    pub heartbeat_ms: u64,
    /// Sustained rate of messages of one client.
    pub messages_per_second: u32,
    /// Burst of messages of one client above the sustained rate.
    pub message_burst: u32,
    /// Consecutive rejected messages after which the socket is closed (1008).
    pub flood_limit: u32,
    /// Calls that a user may request in a minute, on this node. Further ones are answered with `rate_limited` and `retryAfterMs`.
    pub calls_per_minute_of_user: u32,
    /// Calls that may ring at an otomo in a minute, from this node.
    pub calls_per_minute_to_otomo: u32,
    /// Calls of one user to one otomo in a minute, on this node.
    pub calls_per_minute_of_pair: u32,
    /// Largest number of queued requests of one client, which are processed one at a time.
    pub pending_requests: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4001)),
            tls: TlsSettings::default(),
            node_id: None,
            nats: NatsSettings::default(),
            nats_password: Secret::default(),
            jwt: JwtSettings::default(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            pages: true,
            ring_timeout_ms: 30_000,
            offline_otomo: OfflineOtomo::Ring,
            takeover_grace_ms: 2_000,
            command_timeout_ms: 3_000,
            storage_timeout_ms: 5_000,
            credit: CreditSettings::default(),
            terms: TermsSettings::default(),
            turn: TurnSettings::default(),
            limits: Limits::default(),
            common: CommonSettings::with_ops_port(4002),
        }
    }
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            secret: Secret::default(),
            algorithm: TokenAlgorithm::HS256,
            key_files: Vec::new(),
            jwks: String::new(),
            refresh_interval_s: 60,
            audience: "callpulse".to_owned(),
            leeway_s: 2,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            connections_per_party: 8,
            handshake_timeout_ms: 10_000,
            message_bytes: 64 * 1024,
            read_buffer_bytes: 4 * 1024,
            send_buffer_bytes: 64 * 1024,
            queued_messages: 256,
            write_timeout_ms: 10_000,
            close_spread_ms: 5_000,
            ping_interval_ms: 25_000,
            heartbeat_ms: 2_000,
            messages_per_second: 20,
            message_burst: 40,
            flood_limit: 100,
            calls_per_minute_of_user: 30,
            calls_per_minute_to_otomo: 60,
            calls_per_minute_of_pair: 20,
            pending_requests: 16,
        }
    }
}

impl TokenAlgorithm {
    /// The shortest shared key that is as strong as the hash, in bytes; `None` for algorithms with a public key.
    pub fn least_secret_bytes(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            Self::RS256 | Self::ES256 | Self::EdDSA => None,
        }
    }
}

impl Limits {
    /// `handshake_timeout_ms`
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// `write_timeout_ms`
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// `close_spread_ms`
    pub fn close_spread(&self) -> Duration {
        Duration::from_millis(self.close_spread_ms)
    }

    /// `ping_interval_ms`
    pub fn ping_interval(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms)
    }
}

/// Far above any read buffer that 10,000 idle sockets can afford.
const READ_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// Both parties are busy while a call rings.
const RING_TIMEOUT_MS_MAX: u64 = 600_000;
/// A person who waits longer has left.
const REPLY_TIMEOUT_MS_MAX: u64 = 60_000;

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        let mut wrong = self.nats.problems();
        let jwt = &self.jwt;
        let given = jwt.secret.expose().len();
        match jwt.algorithm.least_secret_bytes() {
            None => wrong.push("jwt.algorithm: is HS256, HS384 or HS512; use jwt.key_files or jwt.jwks for others".to_owned()),
            Some(_) if given == 0 && jwt.key_files.is_empty() && jwt.jwks.is_empty() => wrong.push(
                "jwt.secret: set it, or jwt.secret_file, jwt.key_files or jwt.jwks: no token can be verified without a key"
                    .to_owned(),
            ),
            Some(least) if given != 0 && given < least => wrong.push(format!(
                "jwt.secret: has {given} bytes, {:?} needs at least {least}",
                jwt.algorithm
            )),
            Some(_) => {}
        }
        if !(1..=86_400).contains(&jwt.refresh_interval_s) {
            wrong.push("jwt.refresh_interval_s: is from 1 to 86400".to_owned());
        }
        if jwt.jwks.contains("://")
            && let Err(error) = fetch::parse(&jwt.jwks)
        {
            wrong.push(format!("jwt.jwks: {error}"));
        }
        if self.jwt.leeway_s > 5 {
            wrong.push("jwt.leeway_s: is at most 5".to_owned());
        }
        if self.jwt.audience.is_empty() {
            wrong.push("jwt.audience: must not be empty".to_owned());
        }
        if self.tls.is_incomplete() {
            wrong.push("tls: set both tls.certificate_file and tls.key_file, or neither".to_owned());
        }
        for origin in &self.allowed_origins {
            if origin::normalised(origin).is_none() {
                wrong.push("allowed_origins: each is a scheme and a host, such as https://app.example".to_owned());
            }
        }
        let timeouts = [
            ("ring_timeout_ms", self.ring_timeout_ms, RING_TIMEOUT_MS_MAX),
            ("takeover_grace_ms", self.takeover_grace_ms, RING_TIMEOUT_MS_MAX),
            ("command_timeout_ms", self.command_timeout_ms, REPLY_TIMEOUT_MS_MAX),
            ("storage_timeout_ms", self.storage_timeout_ms, REPLY_TIMEOUT_MS_MAX),
        ];
        wrong.extend(
            timeouts
                .iter()
                .filter(|(_, value, most)| value > most)
                .map(|(key, _, most)| format!("{key}: is at most {most}")),
        );
        let credit = &self.credit;
        if credit.enabled && (credit.timeout_ms == 0 || credit.timeout_ms >= self.storage_timeout_ms) {
            wrong.push("credit.timeout_ms: is above 0, and less than storage_timeout_ms".to_owned());
        }
        let interval_ms = self.terms.interval_ms;
        if credit.enabled && credit.max_ms < interval_ms {
            wrong.push("credit.max_ms: is at least terms.interval_ms".to_owned());
        }
        let is_grant =
            |until_ms: u64| until_ms > 0 && until_ms <= credit.max_ms && until_ms.is_multiple_of(interval_ms);
        if credit.fallback_grant_ms.is_some_and(|until_ms| !is_grant(until_ms)) {
            wrong
                .push("credit.fallback_grant_ms: is a multiple of terms.interval_ms, at most credit.max_ms".to_owned());
        }
        let terms = Terms::from(&self.terms).problems().into_iter();
        wrong.extend(terms.map(|problem| format!("terms.{problem}")));
        if let Some(url) = self.turn.urls.iter().find(|url| !is_turn_url(url)) {
            wrong.push(format!(
                "turn.urls: {url:?} is not a URL such as turns:turn.example:443?transport=tcp"
            ));
        }
        if !self.turn.urls.is_empty() && self.turn.secret.expose().is_empty() {
            wrong.push("turn.secret: set it, or turn.secret_file: turn.urls need credentials".to_owned());
        }
        let limits = &self.limits;
        if limits.close_spread_ms > self.common.drain_timeout_ms / 2 {
            wrong.push("limits.close_spread_ms: is at most half of drain_timeout_ms".to_owned());
        }
        let positive = [
            ("ring_timeout_ms", self.ring_timeout_ms),
            ("command_timeout_ms", self.command_timeout_ms),
            ("storage_timeout_ms", self.storage_timeout_ms),
            ("turn.lifetime_s", self.turn.lifetime_s),
            ("limits.connections", limits.connections as u64),
            ("limits.connections_per_address", limits.connections_per_address as u64),
            ("limits.connections_per_party", limits.connections_per_party as u64),
            ("limits.handshake_timeout_ms", limits.handshake_timeout_ms),
            ("limits.message_bytes", limits.message_bytes as u64),
            ("limits.send_buffer_bytes", limits.send_buffer_bytes.into()),
            ("limits.queued_messages", limits.queued_messages as u64),
            ("limits.write_timeout_ms", limits.write_timeout_ms),
            ("limits.ping_interval_ms", limits.ping_interval_ms),
            ("limits.messages_per_second", limits.messages_per_second.into()),
            ("limits.message_burst", limits.message_burst.into()),
            (
                "limits.calls_per_minute_of_user",
                limits.calls_per_minute_of_user.into(),
            ),
            (
                "limits.calls_per_minute_to_otomo",
                limits.calls_per_minute_to_otomo.into(),
            ),
            (
                "limits.calls_per_minute_of_pair",
                limits.calls_per_minute_of_pair.into(),
            ),
            ("limits.flood_limit", limits.flood_limit.into()),
            ("limits.pending_requests", limits.pending_requests as u64),
        ];
        wrong.extend(
            positive
                .iter()
                .filter(|(_, value)| *value == 0)
                .map(|(key, _)| format!("{key}: must not be 0")),
        );
        if !(512..=READ_BUFFER_BYTES_MAX).contains(&limits.read_buffer_bytes) {
            wrong.push(format!(
                "limits.read_buffer_bytes: is from 512 to {READ_BUFFER_BYTES_MAX}"
            ));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        settings.jwt.secret = Secret::new("x".repeat(32));
        change(&mut settings);
        settings.validate()
    }

    #[test]
    fn the_defaults_are_valid_except_for_the_secret() {
        assert!(problems(|_| ()).is_empty());
        assert_eq!(problems(|settings| settings.jwt.secret = Secret::default()).len(), 1);
    }

    #[test]
    fn a_secret_is_at_least_as_long_as_the_hash() {
        assert!(problems(|settings| settings.jwt.secret = Secret::new("x".repeat(31)))[0].contains("31 bytes"));
        assert!(problems(|settings| settings.jwt.algorithm = TokenAlgorithm::HS512)[0].contains("at least 64"));
    }

    #[test]
    fn terms_are_within_their_limits() {
        let found = problems(|settings| {
            settings.terms.interval_ms = 99;
            settings.terms.free_ms = u64::MAX;
        });
        assert!(
            found.len() == 2 && found[0].starts_with("terms.interval_ms: "),
            "{found:?}"
        );
    }

    #[test]
    fn grants_of_the_node_itself_are_whole_minutes_of_its_terms() {
        let with = |enabled: bool, fallback_ms: u64, max_ms: u64| {
            problems(|settings| {
                settings.credit.enabled = enabled;
                settings.credit.fallback_grant_ms = Some(fallback_ms);
                settings.credit.max_ms = max_ms;
                settings.terms.interval_ms = 30_000;
            })
        };
        assert!(with(true, 90_000, 90_000).is_empty());
        for wrong in [0, 45_000, 120_000] {
            assert!(
                with(true, wrong, 90_000)[0].starts_with("credit.fallback_grant_ms"),
                "{wrong}"
            );
        }
        assert!(with(true, 30_000, 29_999)[0].starts_with("credit.max_ms"));
    }

    #[test]
    fn keys_come_from_a_secret_from_files_or_from_a_document() {
        let jwt = |change: fn(&mut JwtSettings)| problems(|settings| change(&mut settings.jwt));
        let key_file = || "2026-01:ES256:/run/secrets/a:b.pem".parse::<KeyFile>();
        let file = key_file().unwrap();
        assert_eq!((file.id.as_str(), file.algorithm), ("2026-01", TokenAlgorithm::ES256));
        assert_eq!(file.path, PathBuf::from("/run/secrets/a:b.pem"));
        for wrong in ["", "a", "a:ES256", "a:ES256:", ":ES256:/b", "a:none:/b", "a:HS1:/b"] {
            assert!(wrong.parse::<KeyFile>().is_err(), "{wrong}");
        }
        assert!(
            problems(|settings| {
                settings.jwt.secret = Secret::default();
                settings.jwt.key_files = vec![key_file().unwrap()];
            })
            .is_empty()
        );
        assert!(jwt(|jwt| jwt.jwks = "https://issuer.example/keys.json".to_owned()).is_empty());
        assert!(jwt(|jwt| jwt.jwks = "/etc/keys.json".to_owned()).is_empty());
        assert_eq!(
            jwt(|jwt| jwt.jwks = "http://issuer.example/keys.json".to_owned()).len(),
            1
        );
        assert_eq!(jwt(|jwt| jwt.algorithm = TokenAlgorithm::ES256).len(), 1);
        assert_eq!(jwt(|jwt| jwt.refresh_interval_s = 0).len(), 1);
    }

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
    fn origins_are_not_patterns() {
        for origin in [
            "*",
            "https://",
            "app.example",
            "https://*.example",
            "https://a.example/path",
            "https://a.example:0",
            "https://a.example:99999",
            "https://user@a.example",
            "https://a.example?x",
            "https://例.example",
            "ftp://a.example",
            "null",
            "",
        ] {
            assert_eq!(
                problems(|settings| settings.allowed_origins = vec![origin.to_owned()]).len(),
                1,
                "{origin}"
            );
        }
        assert!(problems(|settings| settings.allowed_origins = vec!["https://a.example:8443".to_owned()]).is_empty());
    }

    #[test]
    fn a_timeout_locks_nobody_out_for_days() {
        for wrong in [
            problems(|settings| settings.ring_timeout_ms = 1_000_000_000_000_000),
            problems(|settings| settings.takeover_grace_ms = 600_001),
            problems(|settings| settings.command_timeout_ms = 60_001),
            problems(|settings| settings.storage_timeout_ms = u64::MAX),
        ] {
            assert_eq!(wrong.len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        assert_eq!(problems(|settings| settings.limits.connections = 0).len(), 1);
    }

    #[test]
    fn the_configuration_reference_is_up_to_date() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/configuration/ws-edge.md");
        expect_test::expect_file![page].assert_eq(&service::settings::reference::markdown::<Settings>());
    }
}
