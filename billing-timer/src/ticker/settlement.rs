//! Settles a call: stores the settlement, sends the notice, removes the entry from `billing_active`, in this order.
//!
//! After a crash in between the entry still exists, and the next reader of the bucket completes the remaining steps. The
//! notice may then be sent twice, but it is never omitted.

use contract::buckets::billing_active::BillingEntry;
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::fact_store::{FactError, Outcome, PublishCondition};
use contract::wire::fact::Settled;
use contract::{CallId, Fact};

use super::last_stored;
use crate::backoff::Backoff;
use crate::deps::Deps;
use crate::domain::call_facts::CallFacts;
use crate::domain::settlement::settle_if_complete;
use crate::domain::step::on_server;
use crate::domain::terms::FleetTerms;
use crate::domain::work::{DueSettlement, WorkToken};
use crate::metrics;

/// The result of a settlement.
#[derive(Debug)]
pub(crate) enum SettleOutcome {
    /// The entry was removed at this revision.
    Removed(u64),
    /// The entry had changed to this.
    Changed(Revised<BillingEntry>),
    /// Ticks are due that the entry does not show.
    Outdated(Box<CallFacts>),
    /// The settlement cannot be stored. The entry remains.
    Stuck,
}

/// Settles a call and removes its entry. Retries while NATS is away. The future may be dropped at any point.
pub(crate) async fn settle(deps: Deps, fleet: FleetTerms, due: DueSettlement) -> (WorkToken, SettleOutcome) {
    let DueSettlement { token, entry, stored } = due;
    let settled = match stored {
        Some(settled) => *settled,
        None => match store(&deps, &fleet, &entry.value).await {
            Ok(settled) => settled,
            Err(outcome) => return (token, outcome),
        },
    };
    if let Some(notice) = settled.notice() {
        deps.notices.send_to_both(&settled.parties, &notice).await;
    }
    let outcome = remove(&deps, &settled, entry.revision).await;
    (token, outcome)
}

/// Stores the settlement and returns what the stream holds.
///
/// The publish condition is that no fact of the call was stored since the facts were read. So it covers all facts stored before
/// it, including a late `rtp_detected` and the last tick of another instance.
async fn store(deps: &Deps, fleet: &FleetTerms, entry: &BillingEntry) -> Result<Settled, SettleOutcome> {
    let call = &entry.parties.call_id;
    let mut backoff = Backoff::default();
    loop {
        let mut facts = match last_stored::read_for_settlement(&deps.facts, call).await {
            Ok(facts) => facts,
            Err(error @ FactError::Read { .. }) => {
                tracing::warn!(call_id = %call, %error, "facts of an ended call not read; retrying");
                backoff.pause(&*deps.clock).await;
                continue;
            }
            Err(error) => return Err(stuck(call, &error)),
        };
        if let Some(settled) = facts.settled.take() {
            return Ok(*settled);
        }
        let Some(settled) = settle_if_complete(entry, &facts, fleet, deps.server_now()) else {
            return Err(SettleOutcome::Outdated(Box::new(facts)));
        };
        let fact = Fact::Settled(settled.clone());
        let condition = PublishCondition::CallUnchangedSince(facts.sequence);
        match deps.facts.publish(&fact, condition, entry.traceparent.child()).await {
            Ok(Outcome::Stored(_)) => {
                let ended_at = on_server(entry, settled.ended_at);
                metrics::settled(&settled, deps.server_now().until(ended_at));
                return Ok(settled);
            }
            Ok(Outcome::AlreadyStored(_)) => return Ok(settled),
            Ok(Outcome::Superseded(stored)) => {
                metrics::settlement_disputed();
                tracing::error!(call_id = %call, stored = ?stored.fact, ours = ?settled, "a different settlement is stored; using the stored one. Run reconcile for this call");
                return Ok(match stored.fact {
                    Fact::Settled(stored) => stored,
                    _ => settled,
                });
            }
            Ok(Outcome::Refused) => {
                tracing::info!(call_id = %call, "another fact was stored before the settlement; reading the facts again");
                backoff.pause(&*deps.clock).await;
            }
            Err(error) => return Err(stuck(call, &error)),
        }
    }
}

fn stuck(call: &CallId, error: &FactError) -> SettleOutcome {
    metrics::call_stuck("settlement");
    tracing::error!(call_id = %call, %error, "call cannot be settled. Check the call's stored facts");
    SettleOutcome::Stuck
}

async fn remove(deps: &Deps, settled: &Settled, revision: u64) -> SettleOutcome {
    let call = &settled.parties.call_id;
    let mut backoff = Backoff::default();
    loop {
        let error = match deps.active_billing.remove(call, revision).await {
            Ok(()) => return SettleOutcome::Removed(revision),
            Err(BucketError::Conflict { .. }) => match deps.active_billing.get(call).await {
                Ok(Some(entry)) => return SettleOutcome::Changed(entry),
                Ok(None) => return SettleOutcome::Removed(revision),
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::warn!(call_id = %call, %error, "entry of a settled call not removed; retrying");
        backoff.pause(&*deps.clock).await;
    }
}
