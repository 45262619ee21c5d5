//! The keys `credit.*` and `terms.*`: how long a call may last, and how it is billed.

use std::sync::LazyLock;

use contract::CallSettings;
use contract::wire::id::TermsId;
use contract::wire::terms::{Charge, Silence, Terms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

impl Default for CreditSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            timeout_ms: 2_000,
            fallback_grant_ms: None,
        }
    }
}

impl CreditSettings {
    pub(super) fn problems(&self, storage_timeout_ms: u64, interval_ms: u64, calls: CallSettings) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.enabled && (self.timeout_ms == 0 || self.timeout_ms >= storage_timeout_ms) {
            wrong.push("credit.timeout_ms: must be above 0, and less than storage_timeout_ms".to_owned());
        }
        if self.enabled && calls.max_duration_ms().is_some_and(|max_ms| max_ms < interval_ms) {
            wrong.push("max_call_duration_ms: must be at least terms.interval_ms".to_owned());
        }
        let is_grant = |until_ms: u64| {
            let most = calls.max_duration_ms().unwrap_or(u64::MAX);
            (1..=most).contains(&until_ms) && until_ms.is_multiple_of(interval_ms)
        };
        if self.fallback_grant_ms.is_some_and(|until_ms| !is_grant(until_ms)) {
            let limits = "a multiple of terms.interval_ms, at most max_call_duration_ms";
            wrong.push(format!("credit.fallback_grant_ms: must be {limits}"));
        }
        wrong
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

impl TermsSettings {
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let problems = Terms::from(self).problems().into_iter();
        problems.map(|problem| format!("terms.{problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;

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
                settings.calls.max_call_duration_ms = max_ms;
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
        assert!(with(true, 30_000, 29_999)[0].starts_with("max_call_duration_ms"));
    }
}
