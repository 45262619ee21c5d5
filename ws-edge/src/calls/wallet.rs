//! Credit control: the wallet is asked before a call rings.

use std::time::Duration;

use contract::jetstream::request::{self, CommandError};
use contract::wire::credit::{Authorization, Authorize, Denial, Grant};
use contract::wire::terms::Terms;
use contract::{CallSettings, GrantId, Nats, Parties, TraceParent};

use super::media_worker_client::nats_unreachable;
use crate::metrics;
use crate::protocol::Problem;
use crate::settings::CreditSettings;

/// The reason of a denial by this node, because the wallet gave no usable answer.
const NO_ANSWER: &str = "wallet_unavailable";
/// What the identifiers of this node's own grants start with.
const FALLBACK_PREFIX: &str = "fallback";

/// Asks the wallet.
#[derive(Debug, Clone)]
pub struct WalletClient {
    /// The connection.
    pub nats: Nats,
    /// `enabled`, deadline and fallback.
    pub settings: CreditSettings,
    /// The longest grant.
    pub calls: CallSettings,
    /// The terms of calls for which the wallet has no others.
    pub terms: Terms,
}

impl WalletClient {
    /// The first grant of a call, `None` without credit control, and its terms.
    ///
    /// A late answer counts as none: the wallet releases its reservation, because no `requested` follows, or one with another grant.
    pub(super) async fn authorize(
        &self,
        parties: &Parties,
        trace: TraceParent,
    ) -> Result<(Option<Grant>, Terms), Problem> {
        if !self.settings.enabled {
            return Ok((None, self.terms.clone()));
        }
        let question = Authorize {
            parties: parties.clone(),
        };
        let timeout = Duration::from_millis(self.settings.timeout_ms);
        let answer = request::ask(&self.nats.client, &(), &question, trace, timeout).await;
        let failure = match decide(answer, self.calls, &self.terms) {
            Ok(decision) => {
                metrics::wallet_answered(if decision.is_ok() { "allowed" } else { "denied" });
                let decision = decision.map(|(grant, terms)| (Some(grant), terms));
                return decision.map_err(Problem::denied);
            }
            Err(failure) => failure,
        };
        metrics::wallet_answered("failed");
        if !self.nats.state().borrow().connected {
            return Err(nats_unreachable());
        }
        let fallback = self.settings.fallback_grant_ms;
        tracing::warn!(call_id = %parties.call_id, failure, ?fallback, "no usable answer of the wallet: check its service");
        let Some(until_ms) = fallback else {
            return Err(Problem::denied(Denial {
                code: NO_ANSWER.to_owned(),
                message: "The wallet does not answer; try again.".to_owned(),
            }));
        };
        let grant_id = fallback_id(parties).map_err(|_| nats_unreachable())?;
        Ok((Some(Grant { grant_id, until_ms }), self.terms.clone()))
    }
}

/// One per call: its identifier is at most 64 characters, so is this one.
fn fallback_id(parties: &Parties) -> Result<GrantId, contract::wire::id::InvalidId> {
    let call = parties.call_id.as_str();
    let tail = call.get(call.len().saturating_sub(50)..).unwrap_or(call);
    format!("{FALLBACK_PREFIX}-{tail}").parse()
}

/// The wallet's decision, or why its answer cannot be used.
fn decide(
    answer: Result<Authorization, CommandError>,
    calls: CallSettings,
    default_terms: &Terms,
) -> Result<Result<(Grant, Terms), Denial>, String> {
    match answer.map_err(|error| error.to_string())? {
        Authorization::Denied(denial) => Ok(Err(denial)),
        Authorization::Allowed { grant, terms } => {
            let terms = terms.unwrap_or_else(|| default_terms.clone());
            let checked = calls.check(&grant, terms.interval_ms);
            checked.map_err(|error| error.to_string())?;
            Ok(Ok((grant, terms)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TermsSettings;

    #[test]
    fn a_grant_is_whole_minutes_of_the_terms_of_the_wallet_or_else_of_the_settings() {
        let default_terms = Terms::from(&TermsSettings::default());
        let quick = Terms {
            terms_id: "quick".parse().unwrap(),
            interval_ms: 20_000,
            ..default_terms.clone()
        };
        let calls = CallSettings {
            max_call_duration_ms: 120_000,
        };
        let decide = |until_ms, terms: Option<&Terms>| {
            let grant = Grant {
                grant_id: "g".parse().unwrap(),
                until_ms,
            };
            let terms = terms.cloned();
            decide(Ok(Authorization::Allowed { grant, terms }), calls, &default_terms)
        };
        assert!(matches!(decide(60_000, None), Ok(Ok((_, terms))) if terms == default_terms));
        assert!(matches!(decide(80_000, Some(&quick)), Ok(Ok((_, terms))) if terms == quick));
        for bad in [0, 59_999, 80_000, 180_000, u64::MAX] {
            assert!(decide(bad, None).is_err(), "{bad}");
        }
        for bad in [0, 30_000, 140_000] {
            assert!(decide(bad, Some(&quick)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_identifier_of_a_fallback_is_valid_for_the_longest_call_id() {
        let parties = Parties {
            call_id: "c".repeat(64).parse().unwrap(),
            user_id: "u".parse().unwrap(),
            otomo_id: "o".parse().unwrap(),
        };
        assert!(fallback_id(&parties).is_ok());
    }
}
