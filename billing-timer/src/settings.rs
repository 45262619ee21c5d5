//! Settings, documented at each key. Environment variables start with `BILLING_TIMER__`.

use std::time::Duration;

use contract::{CallSettings, NatsSettings, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::settings::out_of_range;
use service::{CommonSettings, Secret, ServiceSettings, Validate};

use crate::domain::terms::{Charge, DefaultTerms, MIN_INTERVAL_MS};

/// The longest interval in milliseconds: one day. Longer values are taken for mistakes.
const MAX_INTERVAL_MS: u64 = 24 * 3_600_000;

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The NATS servers.
    pub nats: NatsSettings,
    /// Password of `nats.user`.
    pub nats_password: Secret,
    /// The name of this instance in the facts that it publishes. Generated if absent. Of several with one name all but the first stop.
    pub instance_id: Option<NodeId>,
    /// The length of a minute in milliseconds. All instances of the fleet must have the same value. A changed value applies
    /// to calls without a tick; it moves no minute of a call that already has one.
    pub tick_interval_ms: u64,
    /// Whether a minute is billed when it is `full` or from its `start`. All instances must have the same value. It applies
    /// when a call is settled.
    pub charge: Charge,
    /// The TTL of this instance's leases in milliseconds. They are renewed at a third of it. After a crash, other instances
    /// take over when it has passed: a longer TTL tolerates longer interruptions, a shorter one makes fewer minutes late. The
    /// server counts whole seconds and checks once a second. Instances may have different values.
    pub lease_ttl_ms: u64,
    /// The consumer of facts: the keys `consumer.*`.
    pub consumer: ConsumerSettings,
    /// How long a call may last.
    #[serde(flatten)]
    pub calls: CallSettings,
    /// The keys that every service has.
    #[serde(flatten)]
    pub common: CommonSettings,
}

/// The keys `consumer.*`: the consumer of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerSettings {
    /// A fact that is not acknowledged for this long is redelivered, in milliseconds. After a crash this delays the facts
    /// that were in progress.
    pub ack_wait_ms: u64,
    /// The most unacknowledged facts of all instances together.
    pub max_ack_pending: u32,
    /// The most facts that this instance handles concurrently.
    pub concurrency: usize,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            ack_wait_ms: 5_000,
            max_ack_pending: 4_096,
            concurrency: 1_024,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nats: NatsSettings::default(),
            nats_password: Secret::default(),
            instance_id: None,
            tick_interval_ms: 60_000,
            charge: Charge::Full,
            lease_ttl_ms: 4_000,
            consumer: ConsumerSettings::default(),
            calls: CallSettings::default(),
            common: CommonSettings::with_ops_port(4022),
        }
    }
}

impl Settings {
    /// The fleet's terms.
    pub fn terms(&self) -> DefaultTerms {
        DefaultTerms {
            interval_ms: self.tick_interval_ms,
            charge: self.charge,
            max_call_duration_ms: self.calls.max_duration_ms(),
        }
    }

    /// The TTL of this instance's leases.
    pub fn lease_ttl(&self) -> Duration {
        Duration::from_millis(self.lease_ttl_ms)
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        let ranges = [
            ("tick_interval_ms", MIN_INTERVAL_MS..=MAX_INTERVAL_MS),
            ("lease_ttl_ms", 1_000..=60_000),
            ("consumer.ack_wait_ms", 1_000..=300_000),
            ("consumer.max_ack_pending", 1..=65_536),
            ("consumer.concurrency", 1..=1_024),
        ];
        let mut wrong = out_of_range(self, &ranges);
        wrong.extend(self.nats.problems());
        wrong
    }
}

impl ServiceSettings for Settings {
    fn common(&self) -> &CommonSettings {
        &self.common
    }

    async fn try_connections(&self) -> Vec<Result<String, String>> {
        contract::jetstream::check::check(&self.nats, self.nats_password.expose(), "billing-timer").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, String> {
        service::settings::load_from("BILLING_TIMER", None, environment.iter().copied())
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(load(&[]), Ok(Settings::default()));
        let terms = Settings::default().terms();
        assert_eq!(
            (terms.interval_ms, terms.max_call_duration_ms),
            (60_000, Some(14_400_000))
        );
    }

    #[test]
    fn environment_variables_override_the_defaults() {
        let settings = load(&[
            ("BILLING_TIMER__TICK_INTERVAL_MS", "250"),
            ("BILLING_TIMER__CHARGE", "start"),
            ("BILLING_TIMER__MAX_CALL_DURATION_MS", "0"),
            ("BILLING_TIMER__INSTANCE_ID", "billing_1"),
            ("BILLING_TIMER__NATS_PASSWORD", "secret"),
            ("BILLING_TIMER__CONSUMER__ACK_WAIT_MS", "2000"),
        ])
        .unwrap();
        let terms = settings.terms();
        assert_eq!(
            (terms.interval_ms, terms.charge, terms.max_call_duration_ms),
            (250, Charge::Start, None)
        );
        assert_eq!(
            (settings.consumer.ack_wait_ms, settings.nats_password.expose()),
            (2_000, "secret")
        );
        assert_eq!(settings.instance_id, Some("billing_1".parse().unwrap()));
    }

    #[test]
    fn every_invalid_key_is_reported() {
        let errors = load(&[
            ("BILLING_TIMER__TICK_INTERVAL_MS", "99"),
            ("BILLING_TIMER__CHARGE", "never"),
            ("BILLING_TIMER__LEASE_TTL_MS", "999"),
            ("BILLING_TIMER__INSTANCE_ID", "a.b"),
            ("BILLING_TIMER__CONSUMER__CONCURRENCY", "0"),
            ("BILLING_TIMER__UNHEARD_OF", "1"),
        ])
        .unwrap_err();
        for key in [
            "tick_interval_ms",
            "charge",
            "lease_ttl_ms",
            "instance_id",
            "consumer.concurrency",
            "unheard_of",
        ] {
            assert!(errors.to_lowercase().contains(key), "{key} is not in: {errors}");
        }
    }

    #[test]
    fn the_configuration_reference_is_up_to_date() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/src/configuration/billing-timer.md"
        );
        expect_test::expect_file![page].assert_eq(&service::settings::reference::markdown::<Settings>());
    }
}
