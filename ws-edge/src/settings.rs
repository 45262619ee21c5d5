//! Settings of a ws-edge node; environment variables begin with `WS_EDGE__`. Doc comments appear in the configuration reference.

mod billing;
mod jwt;
mod limits;
mod turn;

use std::net::SocketAddr;
use std::path::Path;

use contract::{CallSettings, NatsSettings, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::settings::out_of_range;
use service::{CommonSettings, Secret, Validate};

use crate::addresses::client_address::{ForwardedHeader, Network};
use crate::addresses::origin;
use crate::tls::TlsSettings;

pub use billing::{CreditSettings, TermsSettings};
pub use jwt::{JwtSettings, KeyFile, TokenAlgorithm};
pub use limits::Limits;
pub use turn::TurnSettings;

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
    /// is the client's; the header is ignored in requests from any other address.
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
    /// Time without a stored heartbeat of a billing-timer that can store minutes, after which `call_request` and `call_accept` are refused
    /// with `no_capacity`. Heartbeats come at a third of `lease_ttl_ms`. Null accepts calls all the same.
    pub billing_timeout_ms: Option<u64>,
    /// The keys `credit.*`.
    pub credit: CreditSettings,
    /// The keys `terms.*`.
    pub terms: TermsSettings,
    /// The keys `turn.*`.
    pub turn: TurnSettings,
    /// The keys `limits.*`.
    pub limits: Limits,
    /// How long a call may last.
    #[serde(flatten)]
    pub calls: CallSettings,
    /// The keys that every service has.
    #[serde(flatten)]
    pub common: CommonSettings,
}

/// What happens to a call to an otomo who is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflineOtomo {
    /// It rings until its deadline.
    Ring,
    /// It is refused.
    Refuse,
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
            billing_timeout_ms: Some(60_000),
            credit: CreditSettings::default(),
            terms: TermsSettings::default(),
            turn: TurnSettings::default(),
            limits: Limits::default(),
            calls: CallSettings::default(),
            common: CommonSettings::with_ops_port(4002),
        }
    }
}

/// Both parties are busy while a call rings.
const RING_TIMEOUT_MS_MAX: u64 = 600_000;
/// A person who waits longer has left.
const REPLY_TIMEOUT_MS_MAX: u64 = 60_000;
/// The longest time without a heartbeat of a billing-timer, in milliseconds: a day.
const BILLING_TIMEOUT_MS_MAX: u64 = 86_400_000;

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        let mut wrong = self.nats.problems();
        wrong.extend(self.jwt.problems());
        if self.tls.is_incomplete() {
            wrong.push("tls: set both tls.certificate_file and tls.key_file, or neither".to_owned());
        }
        let tls = self
            .tls
            .files()
            .map(|(certificate, key)| [("tls.certificate_file", certificate), ("tls.key_file", key)]);
        wrong.extend(unreadable(tls.into_iter().flatten()));
        let origins = self.allowed_origins.iter();
        wrong.extend(
            origins
                .filter(|origin| origin::normalised(origin).is_none())
                .map(|_| "allowed_origins: each must be a scheme and a host, such as https://app.example".to_owned()),
        );
        let ranges = [
            ("ring_timeout_ms", 1..=RING_TIMEOUT_MS_MAX),
            ("takeover_grace_ms", 0..=RING_TIMEOUT_MS_MAX),
            ("command_timeout_ms", 1..=REPLY_TIMEOUT_MS_MAX),
            ("storage_timeout_ms", 1..=REPLY_TIMEOUT_MS_MAX),
            ("billing_timeout_ms", 1..=BILLING_TIMEOUT_MS_MAX),
        ];
        wrong.extend(out_of_range(self, &ranges));
        let interval_ms = self.terms.interval_ms;
        wrong.extend(self.credit.problems(self.storage_timeout_ms, interval_ms, self.calls));
        wrong.extend(self.terms.problems());
        wrong.extend(self.turn.problems());
        wrong.extend(self.limits.problems(self.common.drain_timeout_ms));
        wrong
    }
}

/// The files that cannot be read, by key.
fn unreadable<'a>(files: impl Iterator<Item = (&'static str, &'a Path)>) -> impl Iterator<Item = String> {
    files.filter_map(|(key, path)| {
        let error = service::settings::check_file(path).err()?;
        Some(format!("{key}: {} cannot be read: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn problems(change: impl FnOnce(&mut Settings)) -> Vec<String> {
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
    fn a_timeout_of_days_is_refused() {
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
    fn the_configuration_reference_is_up_to_date() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/configuration/ws-edge.md");
        expect_test::expect_file![page].assert_eq(&service::settings::reference::markdown::<Settings>());
    }
}
