//! The terms of a call: how its bill follows from its facts. They are set when the call is requested, and travel in its facts.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use strum::IntoStaticStr;

use crate::wire::id::TermsId;

/// The shortest interval, in milliseconds. Shorter ones would cost more than they are worth.
pub const MIN_INTERVAL_MS: u64 = 100;
/// The longest interval, free time and minimum, in milliseconds: one day. Longer values are taken for mistakes.
pub const MAX_TERM_MS: u64 = 24 * 3_600_000;

/// How the bill of a call follows from its facts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// The name of these terms, for people and price lists.
    pub terms_id: TermsId,
    /// The length of a billed minute, and of a tick, in milliseconds.
    #[serde(deserialize_with = "interval_ms")]
    pub interval_ms: u64,
    /// Which minutes are billed.
    pub charge: Charge,
    /// Time that is not billed, in milliseconds.
    #[serde(default, deserialize_with = "term_ms")]
    pub free_ms: u64,
    /// The shortest time that is billed if the call was connected, in milliseconds.
    #[serde(default, deserialize_with = "term_ms")]
    pub minimum_ms: u64,
    /// Whose silence is not billed.
    #[serde(default)]
    pub silence: Silence,
}

/// Which minutes are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Charge {
    /// A minute is billed when it is complete.
    #[default]
    Full,
    /// A minute is billed from its first millisecond. Time that ends exactly at the end of a minute has not begun the next one.
    Start,
}

/// Whose silence is not billed. Only silence that was declared a loss (`rtp_lost`) counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Silence {
    /// Silence is billed.
    Bill,
    /// The silence of the otomo is not billed.
    #[default]
    DeductOtomo,
    /// Time in which either party was silent is not billed.
    DeductAny,
}

impl Terms {
    /// Checks the limits, and returns one text for each violation.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut within = |key: &str, value: u64, min: u64| {
            if !(min..=MAX_TERM_MS).contains(&value) {
                problems.push(format!("{key}: must be from {min} to {MAX_TERM_MS} ms"));
            }
        };
        within("interval_ms", self.interval_ms, MIN_INTERVAL_MS);
        within("free_ms", self.free_ms, 0);
        within("minimum_ms", self.minimum_ms, 0);
        problems
    }
}

fn interval_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, MIN_INTERVAL_MS)
}

fn term_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    within(deserializer, 0)
}

/// A value outside of the limits is refused where it enters.
fn within<'de, D: Deserializer<'de>>(deserializer: D, min: u64) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if (min..=MAX_TERM_MS).contains(&value) {
        Ok(value)
    } else {
        Err(de::Error::custom(format!("{value} is not from {min} to {MAX_TERM_MS}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_outside_of_their_limits_are_refused_and_absent_ones_have_defaults() {
        let read = |text: &str| serde_json::from_str::<Terms>(text);
        let short = read(r#"{"termsId":"t1","intervalMs":60000,"charge":"full"}"#).unwrap();
        assert_eq!(
            (short.free_ms, short.minimum_ms, short.silence),
            (0, 0, Silence::DeductOtomo)
        );
        assert!(short.problems().is_empty());
        for wrong in [
            r#"{"termsId":"t.1","intervalMs":60000,"charge":"full"}"#,
            r#"{"termsId":"t1","intervalMs":99,"charge":"full"}"#,
            r#"{"termsId":"t1","intervalMs":86400001,"charge":"full"}"#,
            r#"{"termsId":"t1","intervalMs":-1,"charge":"full"}"#,
            r#"{"termsId":"t1","intervalMs":60000,"charge":"never"}"#,
            r#"{"termsId":"t1","intervalMs":60000,"charge":"full","freeMs":86400001}"#,
            r#"{"termsId":"t1","intervalMs":60000,"charge":"full","silence":"loud"}"#,
            r#"{"intervalMs":60000,"charge":"full"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
