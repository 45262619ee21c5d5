//! Settings that several services have: each key is declared here once, and has one meaning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::credit::{Grant, InvalidGrant};

/// How long a call may last. Flatten it into the service's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallSettings {
    /// Longest duration of a call, from its connection; 0 for no limit. Every ws-edge and billing-timer must have the same value:
    /// ws-edge accepts no grant of the wallet beyond it, and billing-timer requests the end of a call that reaches it
    /// (`max_duration`).
    pub max_call_duration_ms: u64,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            max_call_duration_ms: 4 * 3_600_000,
        }
    }
}

impl CallSettings {
    /// The longest duration in milliseconds; `None` for no limit.
    pub fn max_duration_ms(self) -> Option<u64> {
        (self.max_call_duration_ms > 0).then_some(self.max_call_duration_ms)
    }

    /// Checks a grant for a call that is billed by this interval.
    ///
    /// # Errors
    /// [`InvalidGrant`]
    pub fn check(self, grant: &Grant, interval_ms: u64) -> Result<(), InvalidGrant> {
        let until_ms = grant.until_ms;
        match self.max_duration_ms() {
            Some(max_ms) if until_ms > max_ms => Err(InvalidGrant::TooLong { until_ms, max_ms }),
            _ => grant.check(interval_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_multiple_of_the_interval_within_the_longest_duration() {
        let check = |max_call_duration_ms, until_ms| {
            let settings = CallSettings { max_call_duration_ms };
            let grant_id = "g".parse().unwrap();
            settings.check(&Grant { grant_id, until_ms }, 60_000)
        };
        let four_hours = CallSettings::default().max_call_duration_ms;
        for good in [60_000, four_hours] {
            assert_eq!(check(four_hours, good), Ok(()));
        }
        assert_eq!(check(four_hours, 0), Err(InvalidGrant::Nothing));
        for odd in [1, 59_999, 60_001] {
            let refused = check(four_hours, odd);
            assert!(matches!(refused, Err(InvalidGrant::NotWhole { .. })), "{odd}");
        }
        for absurd in [four_hours + 60_000, 1 << 53, 1 << 63, u64::MAX] {
            let refused = check(four_hours, absurd);
            assert!(matches!(refused, Err(InvalidGrant::TooLong { .. })), "{absurd}");
        }
        assert_eq!(check(0, four_hours + 60_000), Ok(()), "no limit");
    }
}
