//! Settings of a media-worker; environment variables begin with `MEDIA_WORKER__`. Doc comments appear in the configuration reference.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use contract::jetstream::storage::WORKER_TTL;
use contract::{NatsSettings, WorkerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::settings::{POSITIVE, out_of_range};
use service::{CommonSettings, DescriptorNeed, Secret, ServiceSettings, Validate};

use crate::credit::CreditSettings;
use crate::detection::ConnectPolicy;
use crate::liveness::MediaTimeouts;
use crate::sfu::{ListenAddress, MAX_PENDING};

/// The most mediasoup workers in one process; a crash takes all of them, so small processes are better.
const MEDIASOUP_WORKERS_MAX: u64 = 64;
/// The range of ICE consent timeouts that mediasoup accepts, in seconds (RFC 7675: 30).
const ICE_CONSENT_TIMEOUT_S: RangeInclusive<u64> = 10..=60;
/// So many heartbeats fit into the time after which a worker counts as dead: one may be late, one may be lost.
const HEARTBEATS_PER_TTL: u32 = 2;
/// A party that waits longer for media has left.
const MEDIA_TIMEOUT_MS_MAX: u64 = 600_000;
/// Longer than the other services' drain, for calls go on meanwhile; shorter than the 30 s that Kubernetes leaves a process.
const DRAIN_TIMEOUT_MS: u64 = 25_000;

/// The range of warnings before the end of the granted time.
const CREDIT_LOW_MS: RangeInclusive<u64> = 1_000..=3_600_000;

/// All keys of `media-worker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The keys `nats.*`.
    pub nats: NatsSettings,
    /// Password of `nats.user`.
    pub nats_password: Secret,
    /// Name of this process in subjects and facts, at most 64 characters of `[A-Za-z0-9_-]`. Null generates one at every start. A
    /// process whose name belongs to a living one does not start.
    pub worker_id: Option<WorkerId>,
    /// Number of mediasoup worker threads, from 1 to 64. Each has one UDP port, and with `ice_tcp` the TCP port of the same number.
    pub mediasoup_workers: u16,
    /// IP address on which media is received.
    pub listen_ip: IpAddr,
    /// Address in the ICE candidates that clients receive. Null announces `listen_ip`; required if that is unspecified (`0.0.0.0`).
    pub announced_address: Option<String>,
    /// Further addresses on which media is received, IPv4 or IPv6: `198.51.100.7`, `2001:db8::1`, or `10.0.0.7=198.51.100.7` with the
    /// address in the ICE candidates behind `=`.
    pub more_listen_addresses: Vec<ListenAddress>,
    /// Port of the first worker thread; the others use the ports that follow. 0 takes any free ports.
    pub rtc_port: u16,
    /// Whether media is received over TCP, too, for clients whose network blocks UDP. A connection that does not begin with an ICE
    /// request to a transport of this worker is closed within 5 s, and at most 256 such connections wait on a port.
    pub ice_tcp: bool,
    /// Largest number of calls at the same time.
    pub capacity: u32,
    /// The RTP packet that connects a call.
    pub connect_policy: ConnectPolicy,
    /// Longest time from the acceptance of a call to its connection. The call then ends with `media_timeout`.
    pub media_timeout_ms: u64,
    /// Time without RTP after which a party's media counts as lost (`rtp_lost`). Opus DTX may pause for seconds.
    pub rtp_lost_after_ms: u64,
    /// Time without RTP from any party after which the call ends with `rtp_timeout`.
    pub rtp_timeout_ms: u64,
    /// Time without RTP from one party after which the call ends with `rtp_timeout`. Null disables this limit.
    pub one_sided_timeout_ms: Option<u64>,
    /// With credit control: time before the end of the granted time at which the wallet and the user are warned (`credit_low`),
    /// from 1 s to 1 h.
    pub credit_low_ms: u64,
    /// Interval at which producer statistics are read.
    pub stats_interval_ms: u64,
    /// Interval of the heartbeats in the bucket `media_workers`. A worker without a heartbeat counts as dead, and its calls end.
    pub heartbeat_interval_ms: u64,
    /// ICE consent timeout (RFC 7675), from 10 to 60.
    pub ice_consent_timeout_s: u8,
    /// Largest number of facts that wait for NATS. The worker accepts no new call when three quarters are used.
    pub fact_queue_capacity: usize,
    /// The keys that every service has.
    #[serde(flatten)]
    pub common: CommonSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nats: NatsSettings::default(),
            nats_password: Secret::default(),
            worker_id: None,
            mediasoup_workers: 1,
            listen_ip: Ipv4Addr::LOCALHOST.into(),
            announced_address: None,
            more_listen_addresses: Vec::new(),
            rtc_port: 0,
            ice_tcp: true,
            capacity: 500,
            connect_policy: ConnectPolicy::default(),
            media_timeout_ms: 30_000,
            rtp_lost_after_ms: 5_000,
            rtp_timeout_ms: 15_000,
            one_sided_timeout_ms: Some(60_000),
            credit_low_ms: 60_000,
            stats_interval_ms: 1_000,
            heartbeat_interval_ms: 2_000,
            ice_consent_timeout_s: 30,
            fact_queue_capacity: 10_000,
            common: CommonSettings {
                drain_timeout_ms: DRAIN_TIMEOUT_MS,
                ..CommonSettings::with_ops_port(4012)
            },
        }
    }
}

impl Settings {
    /// Every address on which media is received.
    pub fn listen_addresses(&self) -> Vec<ListenAddress> {
        let first = ListenAddress {
            ip: self.listen_ip,
            announced_address: self.announced_address.clone(),
        };
        std::iter::once(first)
            .chain(self.more_listen_addresses.iter().cloned())
            .collect()
    }

    fn listens_twice(&self) -> bool {
        let all = self.listen_addresses();
        let distinct: HashSet<IpAddr> = all.iter().map(|address| address.ip).collect();
        distinct.len() != all.len()
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        let ttl_ms = u64::try_from((WORKER_TTL / HEARTBEATS_PER_TTL).as_millis()).unwrap_or(u64::MAX);
        let last_port = u32::from(self.rtc_port) + u32::from(self.mediasoup_workers);
        let unannounced = self.listen_ip.is_unspecified() && self.announced_address.is_none();
        let ranges = [
            ("mediasoup_workers", 1..=MEDIASOUP_WORKERS_MAX),
            ("capacity", POSITIVE),
            ("media_timeout_ms", 1..=MEDIA_TIMEOUT_MS_MAX),
            ("credit_low_ms", CREDIT_LOW_MS),
            ("stats_interval_ms", POSITIVE),
            ("heartbeat_interval_ms", 1..=ttl_ms),
            ("ice_consent_timeout_s", ICE_CONSENT_TIMEOUT_S),
        ];
        [
            (
                self.rtc_port != 0 && last_port > 0x1_0000,
                "rtc_port: the last worker's port would be above 65535",
            ),
            (
                unannounced,
                "announced_address: clients cannot send to an unspecified listen_ip, so it is needed",
            ),
            (
                self.announced_address.as_deref().is_some_and(|it| !is_announceable(it)),
                "announced_address: is neither an address to which clients can send nor a host name",
            ),
            (
                is_of_several(self.listen_ip),
                "listen_ip: is a multicast or broadcast address",
            ),
            (
                self.more_listen_addresses
                    .iter()
                    .any(|address| address.ip.is_unspecified() && address.announced_address.is_none()),
                "more_listen_addresses: clients cannot send to an unspecified address, so it needs an announced one",
            ),
            (
                self.listens_twice(),
                "more_listen_addresses: an address is listed twice, or is listen_ip",
            ),
            (
                self.stats_interval_ms >= self.rtp_lost_after_ms,
                "rtp_lost_after_ms: must be longer than stats_interval_ms",
            ),
            (
                self.rtp_lost_after_ms >= self.rtp_timeout_ms,
                "rtp_timeout_ms: must be longer than rtp_lost_after_ms",
            ),
            (
                self.one_sided_timeout_ms
                    .is_some_and(|timeout| timeout <= self.rtp_lost_after_ms),
                "one_sided_timeout_ms: must be longer than rtp_lost_after_ms",
            ),
            (
                self.fact_queue_capacity < usize::try_from(self.capacity).unwrap_or(usize::MAX),
                "fact_queue_capacity: must be at least capacity, one fact for each call",
            ),
        ]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, what)| what.to_owned())
        .chain(out_of_range(self, &ranges))
        .chain(self.nats.problems())
        .collect()
    }
}

/// Whether it is the address of no single host.
fn is_of_several(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether clients can send to it: an IP address of one host, or a host name (RFC 1123), whose last label is never a number.
fn is_announceable(address: &str) -> bool {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return !ip.is_unspecified() && !is_of_several(ip);
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = address.rsplit('.').next().unwrap_or_default();
    address.len() <= 253 && address.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl ServiceSettings for Settings {
    fn common(&self) -> &CommonSettings {
        &self.common
    }

    /// Of strangers alone; the accept loops of the ports keep a reserve beside the connections of parties.
    fn descriptors(&self) -> Vec<DescriptorNeed> {
        let ports = self.listen_addresses().len() * usize::from(self.mediasoup_workers);
        let pending = self.ice_tcp.then(|| ports * MAX_PENDING);
        pending
            .into_iter()
            .map(|pending| DescriptorNeed {
                key: "ice_tcp",
                descriptors: pending as u64,
            })
            .collect()
    }

    async fn try_connections(&self) -> Vec<Result<String, String>> {
        contract::jetstream::check::check(&self.nats, self.nats_password.expose(), "media-worker").await
    }
}

impl Settings {
    /// The timeouts of a call's media.
    pub fn media_timeouts(&self) -> MediaTimeouts {
        MediaTimeouts {
            media_timeout: Duration::from_millis(self.media_timeout_ms),
            lost_after: Duration::from_millis(self.rtp_lost_after_ms),
            rtp_timeout: Duration::from_millis(self.rtp_timeout_ms),
            one_sided_timeout: self.one_sided_timeout_ms.map(Duration::from_millis),
            sample_interval: Duration::from_millis(self.stats_interval_ms),
        }
    }

    /// The limits of grants.
    pub fn credit(&self) -> CreditSettings {
        CreditSettings {
            low_before: Duration::from_millis(self.credit_low_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variables = variables
            .iter()
            .map(|(key, value)| (format!("MEDIA_WORKER__{key}"), (*value).to_owned()));
        service::settings::load_from("MEDIA_WORKER", None, variables).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(load(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn every_key_can_be_set() {
        let settings = load(&[
            ("WORKER_ID", "mw-1"),
            ("LISTEN_IP", "0.0.0.0"),
            ("ANNOUNCED_ADDRESS", "203.0.113.7"),
            ("CONNECT_POLICY", "both_rtp"),
            ("ONE_SIDED_TIMEOUT_MS", "60000"),
            ("NATS_PASSWORD", "secret"),
            ("DRAIN_TIMEOUT_MS", "7"),
        ])
        .unwrap();
        assert_eq!(settings.worker_id.unwrap().as_str(), "mw-1");
        assert_eq!(settings.connect_policy, ConnectPolicy::BothRtp);
        assert_eq!(
            (settings.one_sided_timeout_ms, settings.common.drain_timeout_ms),
            (Some(60_000), 7)
        );
        assert_eq!(settings.nats_password.expose(), "secret");
    }

    #[test]
    fn all_contradictions_are_reported_together() {
        let error = load(&[
            ("RTP_LOST_AFTER_MS", "1000"),
            ("RTP_TIMEOUT_MS", "1000"),
            ("HEARTBEAT_INTERVAL_MS", "6000"),
            ("LISTEN_IP", "::"),
            ("ICE_CONSENT_TIMEOUT_S", "5"),
            ("FACT_QUEUE_CAPACITY", "10"),
            ("RTC_PORT", "65535"),
            ("MEDIASOUP_WORKERS", "2"),
            ("WORKER_ID", "mw.1"),
        ])
        .unwrap_err();
        for key in [
            "rtp_lost_after_ms",
            "rtp_timeout_ms",
            "heartbeat_interval_ms",
            "announced_address",
            "ice_consent_timeout_s",
            "fact_queue_capacity",
            "rtc_port",
            "worker_id",
        ] {
            assert!(error.contains(key), "{key} is missing in {error}");
        }
    }

    #[test]
    fn the_announced_address_can_be_reached() {
        for good in [
            "203.0.113.7",
            "2001:db8::1",
            "media.example",
            "localhost",
            "a-1.example",
        ] {
            assert!(load(&[("ANNOUNCED_ADDRESS", good)]).is_ok(), "{good}");
        }
        for bad in [
            "300.1.1.1",
            "1.2.3",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "a b",
            "-a.example",
            "a..b",
            ".",
            "a.example.",
            "[::1]",
            "1.2.3.4:5000",
            "http://a.example",
            "a_b.example",
            "例.example",
        ] {
            let error = load(&[("ANNOUNCED_ADDRESS", bad)]).unwrap_err();
            assert!(error.starts_with("announced_address "), "{bad}: {error}");
        }
        for group in ["224.0.0.1", "255.255.255.255"] {
            assert!(load(&[("LISTEN_IP", group)]).unwrap_err().contains("multicast"));
        }
    }

    #[test]
    fn nats_and_every_number_are_checked() {
        for (key, value, says) in [
            ("NATS__URL", "nats://u:hunter2@h", "URL 1 has a user or a password"),
            ("NATS__URL", "nats://h:99999", "URL 1 is not an address"),
            ("NATS__URL", "http://h", "another scheme"),
            ("NATS__REPLICAS", "0", "must be 1, 3 or 5"),
            ("NATS__REPLICAS", "7", "must be 1, 3 or 5"),
            ("CAPACITY", "4294967295", "must be from"),
            ("MEDIA_TIMEOUT_MS", "9223372036854775808", "must be from"),
            ("DRAIN_TIMEOUT_MS", "18446744073709551615", "must be from"),
            ("FACT_QUEUE_CAPACITY", "9223372036854775808", "must be from"),
        ] {
            let error = load(&[(key, value)]).unwrap_err();
            assert!(
                error.contains(says) && !error.contains("hunter2"),
                "{key}={value}: {error}"
            );
        }
    }

    #[test]
    fn the_configuration_reference_is_up_to_date() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/configuration/media-worker.md");
        expect_test::expect_file![page].assert_eq(&service::settings::reference::markdown::<Settings>());
    }
}
