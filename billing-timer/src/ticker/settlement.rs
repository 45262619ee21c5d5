//! Settles calls: stores the settlement, sends the notice, removes the entry from `billing_active`, in this order.
//!
//! Calls that are over at the same time are settled together. What fails for a batch is done for each of its calls by itself, so
//! that one call cannot stop the others.
//!
//! After a crash in between the entry still exists, and the next reader of the bucket completes the remaining steps. The
//! notice may then be sent twice, but it is never omitted.

use contract::buckets::billing_active::BillingEntry;
use contract::jetstream::batch::Entry;
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::fact_store::{FactError, Outcome, PublishCondition};
use contract::wire::fact::Settled;
use contract::{CallId, Fact, Timestamp, TraceParent, call_span, spans};
use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::{Instrument as _, Span};

use super::last_stored;
use crate::backoff::Backoff;
use crate::deps::Deps;
use crate::domain::call_facts::CallFacts;
use crate::domain::settlement::settle_if_complete;
use crate::domain::step::on_server;
use crate::domain::terms::DefaultTerms;
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

/// The result of settling calls together.
#[derive(Default)]
pub(crate) struct SettledBatch {
    /// The calls that are done.
    pub(crate) done: Vec<(WorkToken, SettleOutcome)>,
    /// What the batch could not do, by call: no call waits for the retries of another one.
    pub(crate) remaining: Vec<BoxFuture<'static, (WorkToken, SettleOutcome)>>,
}

/// A call and its settlement.
struct Bill {
    token: WorkToken,
    entry: Revised<BillingEntry>,
    settled: Settled,
    /// Until its entry is removed.
    span: Span,
}

/// What the stored facts of an ended call lead to.
enum Decision {
    /// It is settled.
    Stored(Settled),
    /// This settlement is to be stored under this condition.
    Store(Settled, PublishCondition),
    /// Ticks are due that the entry does not show.
    Outdated(Box<CallFacts>),
}

/// Settles calls together and removes their entries: one read, one batch of settlements and one of removals, in one attempt each.
/// At most [`MAX_CALLS_PER_READ`](contract::jetstream::fact_store::MAX_CALLS_PER_READ) calls. The future may be dropped at any
/// point.
pub(crate) async fn settle_batch(deps: Deps, defaults: DefaultTerms, due: Vec<DueSettlement>) -> SettledBatch {
    let mut batch = SettledBatch::default();
    let bills = store_batch(&deps, &defaults, due, &mut batch).await;
    for bill in &bills {
        send_notice(&deps, &bill.settled).instrument(bill.span.clone()).await;
    }
    if bills.is_empty() {
        return batch;
    }
    let entries: Vec<(&CallId, u64)> = bills
        .iter()
        .map(|bill| (&bill.token.call, bill.entry.revision))
        .collect();
    match deps.active_billing.remove_many(&entries).await {
        Ok(()) => batch.done.extend(bills.into_iter().map(|bill| {
            let removed = SettleOutcome::Removed(bill.entry.revision);
            (bill.token, removed)
        })),
        Err(error) => {
            tracing::info!(%error, calls = bills.len(), "entries of settled calls not removed together: removing each by itself");
            let remaining = bills.into_iter().map(|bill| remove(deps.clone(), bill).boxed());
            batch.remaining.extend(remaining);
        }
    }
    batch
}

/// Stores the settlements and returns those that are stored now. The other calls are in `batch`.
async fn store_batch(
    deps: &Deps,
    defaults: &DefaultTerms,
    due: Vec<DueSettlement>,
    batch: &mut SettledBatch,
) -> Vec<Bill> {
    let (mut stored, mut new, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    let calls: Vec<CallId> = due
        .iter()
        .filter(|due| due.stored.is_none())
        .map(|due| due.token.call.clone())
        .collect();
    let mut facts = last_stored::read_many_for_settlement(&deps.facts, &calls).await;
    for due in due {
        let DueSettlement {
            token,
            entry,
            stored: known,
        } = due;
        let decision = match known {
            Some(settled) => Some(Decision::Stored(*settled)),
            None => facts
                .remove(&token.call)
                .map(|facts| decide(&entry.value, facts, defaults, deps.server_now())),
        };
        match decision {
            Some(Decision::Stored(settled)) => {
                let (span, _) = span(&entry.value);
                stored.push(Bill {
                    token,
                    entry,
                    settled,
                    span,
                });
            }
            Some(Decision::Store(settled, condition)) => {
                let (span, trace) = span(&entry.value);
                entries.push(Entry {
                    fact: Fact::Settled(settled.clone()),
                    condition,
                    trace,
                });
                new.push(Bill {
                    token,
                    entry,
                    settled,
                    span,
                });
            }
            Some(Decision::Outdated(facts)) => batch.done.push((token, SettleOutcome::Outdated(facts))),
            None => batch
                .remaining
                .push(settle(deps.clone(), *defaults, token, entry).boxed()),
        }
    }
    if entries.is_empty() {
        return stored;
    }
    match deps.facts.publish_batch(&entries).await {
        Ok(_) => {
            new.iter()
                .for_each(|bill| count(deps, &bill.entry.value, &bill.settled));
            stored.extend(new);
        }
        Err(error) => {
            tracing::info!(%error, calls = new.len(), "settlements not stored together: settling each call by itself");
            let remaining = new
                .into_iter()
                .map(|bill| settle(deps.clone(), *defaults, bill.token, bill.entry).boxed());
            batch.remaining.extend(remaining);
        }
    }
    stored
}

/// The publish condition is that no fact of the call was stored since the facts were read. So it covers all facts stored before
/// it, including a late `rtp_detected` and the last tick of another instance.
fn decide(entry: &BillingEntry, mut facts: CallFacts, defaults: &DefaultTerms, now: Timestamp) -> Decision {
    if let Some(settled) = facts.settled.take() {
        return Decision::Stored(*settled);
    }
    match settle_if_complete(entry, &facts, defaults, now) {
        Some(settled) => Decision::Store(settled, PublishCondition::CallUnchangedSince(facts.sequence)),
        None => Decision::Outdated(Box::new(facts)),
    }
}

async fn send_notice(deps: &Deps, settled: &Settled) {
    if let Some(notice) = settled.notice() {
        deps.notices.send_to_both(&settled.parties, &notice).await;
    }
}

/// Settles a call and removes its entry. Retries while NATS is unreachable. The future may be dropped at any point.
async fn settle(
    deps: Deps,
    defaults: DefaultTerms,
    token: WorkToken,
    entry: Revised<BillingEntry>,
) -> (WorkToken, SettleOutcome) {
    let (span, trace) = span(&entry.value);
    let settling = async {
        let settled = store(&deps, &defaults, &entry.value, trace).await?;
        send_notice(&deps, &settled).await;
        Ok(settled)
    };
    match settling.instrument(span.clone()).await {
        Ok(settled) => {
            let bill = Bill {
                token,
                entry,
                settled,
                span,
            };
            remove(deps, bill).await
        }
        Err(outcome) => (token, outcome),
    }
}

/// The span of a settlement, and its context.
fn span(entry: &BillingEntry) -> (Span, TraceParent) {
    let span = call_span!("settle", "producer", callpulse.call_id = %entry.parties.call_id);
    let trace = spans::child_of(&span, entry.traceparent);
    (span, trace)
}

/// Stores the settlement and returns what the stream holds.
async fn store(
    deps: &Deps,
    defaults: &DefaultTerms,
    entry: &BillingEntry,
    trace: TraceParent,
) -> Result<Settled, SettleOutcome> {
    let call = &entry.parties.call_id;
    let mut backoff = Backoff::default();
    loop {
        let facts = match last_stored::read_for_settlement(&deps.facts, call).await {
            Ok(facts) => facts,
            Err(error @ FactError::Read { .. }) => {
                tracing::warn!(call_id = %call, %error, "facts of an ended call not read: retrying");
                backoff.pause(&*deps.clock).await;
                continue;
            }
            Err(error) => return Err(stuck(call, &error)),
        };
        let (settled, condition) = match decide(entry, facts, defaults, deps.server_now()) {
            Decision::Stored(settled) => return Ok(settled),
            Decision::Store(settled, condition) => (settled, condition),
            Decision::Outdated(facts) => return Err(SettleOutcome::Outdated(facts)),
        };
        let fact = Fact::Settled(settled.clone());
        match deps.facts.publish(&fact, condition, trace).await {
            Ok(Outcome::Stored(_)) => {
                count(deps, entry, &settled);
                return Ok(settled);
            }
            Ok(Outcome::AlreadyStored(_)) => return Ok(settled),
            Ok(Outcome::Superseded(stored)) => {
                metrics::settlement_disputed();
                tracing::error!(call_id = %call, stored = ?stored.fact, ours = ?settled, "a different settlement is stored, using that one: run reconcile for this call");
                return Ok(match stored.fact {
                    Fact::Settled(stored) => stored,
                    _ => settled,
                });
            }
            Ok(Outcome::ConditionFailed) => {
                tracing::info!(call_id = %call, "another fact was stored before the settlement: retrying");
                backoff.pause(&*deps.clock).await;
            }
            Err(error) => return Err(stuck(call, &error)),
        }
    }
}

fn count(deps: &Deps, entry: &BillingEntry, settled: &Settled) {
    let ended_at = on_server(entry, settled.ended_at);
    metrics::settled(settled, deps.server_now().until(ended_at));
}

fn stuck(call: &CallId, error: &FactError) -> SettleOutcome {
    metrics::call_stuck("settlement");
    tracing::error!(call_id = %call, %error, "call not settled: check its stored facts");
    SettleOutcome::Stuck
}

async fn remove(deps: Deps, bill: Bill) -> (WorkToken, SettleOutcome) {
    let (call, revision) = (&bill.token.call, bill.entry.revision);
    let mut backoff = Backoff::default();
    let outcome = loop {
        let error = match deps.active_billing.remove(call, revision).await {
            Ok(()) => break SettleOutcome::Removed(revision),
            Err(BucketError::Conflict { .. }) => match deps.active_billing.get(call).await {
                Ok(Some(entry)) => break SettleOutcome::Changed(entry),
                Ok(None) => break SettleOutcome::Removed(revision),
                // The call is settled, so its entry is not needed any more.
                Err(BucketError::Unreadable {
                    revision: Some(unreadable),
                    ..
                }) => match deps.active_billing.remove(call, unreadable).await {
                    Ok(()) => break SettleOutcome::Removed(revision),
                    Err(error) => error,
                },
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::warn!(call_id = %call, %error, "entry of a settled call not removed: retrying");
        backoff.pause(&*deps.clock).await;
    };
    (bill.token, outcome)
}
