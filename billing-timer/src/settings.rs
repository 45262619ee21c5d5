//! Settings: see each key's comment. Environment variables begin with `BILLING_TIMER__`.

use std::time::Duration;

use contract::{NatsSettings, NodeId};
use serde::{Deserialize, Serialize};
use service::{Secret, ServiceSettings, ShellSettings, Validate};

use crate::domain::terms::{Charge, MIN_INTERVAL_MS, Terms};

/// The longest interval, in milliseconds: a day. What is longer was meant to be something else.
const MAX_INTERVAL_MS: u64 = 24 * 3_600_000;

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where NATS is.
    pub nats: NatsSettings,
    /// The password of `nats.user`.
    pub nats_password: Secret,
    /// This process, in the facts that it publishes. Generated if not given.
    pub instance_id: Option<NodeId>,
    /// The length of a minute, in milliseconds. It is the fleet's policy: give every instance the same. Changing it moves no
    /// minute of a call that has a tick already; calls without one go by the new value.
    pub tick_interval_ms: u64,
    /// Whether a minute is paid when it is `full` or from its `start`. The fleet's policy as well; it counts when a call is
    /// settled.
    pub charge: Charge,
    /// A call that is connected for this long is asked to end, with reason `max_duration`; 0 for no such limit.
    pub max_call_duration_ms: u64,
    /// An instance that died keeps its calls for this long at most, in milliseconds; then others tick them. It is renewed at a
    /// third of it. Longer outlasts longer disturbances, shorter makes fewer minutes late after a crash. The server counts whole
    /// seconds, and looks every second. Instances may differ.
    pub lease_ttl_ms: u64,
    /// The consumer of facts.
    pub intake: IntakeSettings,
    /// The keys `log.*`, `ops.*`, `drain_timeout_ms`.
    #[serde(flatten)]
    pub shell: ShellSettings,
}

/// The keys `intake.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntakeSettings {
    /// A fact that is not acknowledged for this long is delivered again, in milliseconds. After a crash this is how late
    /// the book learns of what was in hand.
    pub ack_wait_ms: u64,
    /// The most facts delivered to all instances together and not acknowledged.
    pub max_ack_pending: u32,
    /// Facts that this instance enters at a time.
    pub concurrency: usize,
}

impl Default for IntakeSettings {
    fn default() -> Self {
        Self {
            ack_wait_ms: 5_000,
            max_ack_pending: 1_024,
            concurrency: 32,
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
            max_call_duration_ms: 4 * 3_600_000,
            lease_ttl_ms: 4_000,
            intake: IntakeSettings::default(),
            shell: ShellSettings::with_ops_port(4022),
        }
    }
}

impl Settings {
    /// The fleet's policy.
    pub fn terms(&self) -> Terms {
        Terms {
            interval_ms: self.tick_interval_ms,
            charge: self.charge,
            max_call_duration_ms: (self.max_call_duration_ms > 0).then_some(self.max_call_duration_ms),
        }
    }

    /// How long the word of an instance counts.
    pub fn lease_ttl(&self) -> Duration {
        Duration::from_millis(self.lease_ttl_ms)
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut within = |key: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                wrong.push(format!("{key}: must be from {min} to {max}"));
            }
        };
        within(
            "tick_interval_ms",
            self.tick_interval_ms,
            MIN_INTERVAL_MS,
            MAX_INTERVAL_MS,
        );
        within("lease_ttl_ms", self.lease_ttl_ms, 1_000, 60_000);
        within("intake.ack_wait_ms", self.intake.ack_wait_ms, 1_000, 300_000);
        within("intake.max_ack_pending", self.intake.max_ack_pending.into(), 1, 65_536);
        within(
            "intake.concurrency",
            u64::try_from(self.intake.concurrency).unwrap_or(u64::MAX),
            1,
            1_024,
        );
        wrong
    }
}

impl ServiceSettings for Settings {
    fn shell(&self) -> &ShellSettings {
        &self.shell
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
    fn the_defaults_are_good() {
        assert_eq!(load(&[]), Ok(Settings::default()));
        let terms = Settings::default().terms();
        assert_eq!(
            (terms.interval_ms, terms.max_call_duration_ms),
            (60_000, Some(14_400_000))
        );
    }

    #[test]
    fn the_environment_sets_them() {
        let settings = load(&[
            ("BILLING_TIMER__TICK_INTERVAL_MS", "250"),
            ("BILLING_TIMER__CHARGE", "start"),
            ("BILLING_TIMER__MAX_CALL_DURATION_MS", "0"),
            ("BILLING_TIMER__INSTANCE_ID", "billing_1"),
            ("BILLING_TIMER__NATS_PASSWORD", "secret"),
            ("BILLING_TIMER__INTAKE__ACK_WAIT_MS", "2000"),
        ])
        .unwrap();
        let terms = settings.terms();
        assert_eq!(
            (terms.interval_ms, terms.charge, terms.max_call_duration_ms),
            (250, Charge::Start, None)
        );
        assert_eq!(
            (settings.intake.ack_wait_ms, settings.nats_password.expose()),
            (2_000, "secret")
        );
        assert_eq!(settings.instance_id, Some("billing_1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused_key_by_key() {
        let errors = load(&[
            ("BILLING_TIMER__TICK_INTERVAL_MS", "99"),
            ("BILLING_TIMER__CHARGE", "never"),
            ("BILLING_TIMER__LEASE_TTL_MS", "999"),
            ("BILLING_TIMER__INSTANCE_ID", "a.b"),
            ("BILLING_TIMER__INTAKE__CONCURRENCY", "0"),
            ("BILLING_TIMER__UNHEARD_OF", "1"),
        ])
        .unwrap_err();
        for key in [
            "tick_interval_ms",
            "charge",
            "lease_ttl_ms",
            "instance_id",
            "intake.concurrency",
            "unheard_of",
        ] {
            assert!(errors.to_lowercase().contains(key), "{key} is not in: {errors}");
        }
    }
}
