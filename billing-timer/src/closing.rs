//! The end of a call's billing: its record stored, the parties told, its entry taken off the book, in this order.
//!
//! Whatever dies in between, the entry is still on the book and the rest is done by whoever reads it next; then the parties
//! may be told twice, never not at all.

use contract::buckets::billing_index::BillingEntry;
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::fact_store::{FactError, Outcome, PublishCondition};
use contract::wire::fact::Settled;
use contract::wire::notice::Notice;
use contract::{CallId, Fact};

use crate::backoff::Backoff;
use crate::domain::work::{Closing, Ticket};
use crate::metrics;
use crate::position::{self, Standing};
use crate::world::World;

/// What became of an entry.
#[derive(Debug)]
pub(crate) enum Closed {
    /// It is off the book, as it stood at this revision.
    Removed(u64),
    /// It had changed, to this.
    Changed(Revised<BillingEntry>),
    /// More is stored than its record was made from.
    Outdated(Standing),
    /// Its record cannot be stored: it stays on the book, and somebody must look.
    Stuck,
}

/// Settles a call and takes it off the book, waiting for as long as NATS is away. May be dropped at any point.
pub(crate) async fn close(world: World, closing: Closing) -> (Ticket, Closed) {
    let settled = if closing.stored {
        closing.settled.clone()
    } else {
        match store(&world, &closing).await {
            Ok(settled) => settled,
            Err(closed) => return (closing.ticket, closed),
        }
    };
    if let Some(notice) = Notice::settled(&settled) {
        world.voice.tell_both(&settled.parties, &notice).await;
    }
    let closed = remove(&world, &settled, closing.revision).await;
    (closing.ticket, closed)
}

/// The record as it stands in the stream.
///
/// It is stored under the condition that nothing of the call was since its facts were read, and they were what the record was
/// made from: so it speaks of all that is stored before it, of a beginning that came late and of another owner's last tick.
async fn store(world: &World, closing: &Closing) -> Result<Settled, Closed> {
    let call = &closing.ticket.call;
    let fact = Fact::Settled(closing.settled.clone());
    let mut backoff = Backoff::default();
    loop {
        let standing = match position::read_all(&world.facts, call).await {
            Ok(standing) => standing,
            Err(error @ FactError::Read { .. }) => {
                tracing::warn!(call_id = %call, %error, "a call that is over could not be read yet");
                backoff.pause(&*world.clock).await;
                continue;
            }
            Err(error) => return Err(stuck(call, &error)),
        };
        if is_outdated(closing, &standing) {
            return Err(Closed::Outdated(standing));
        }
        let guard = PublishCondition::CallUnchangedSince(standing.position.sequence);
        match world.facts.publish(&fact, guard, closing.trace.child()).await {
            Ok(Outcome::Stored(_)) => {
                metrics::settled(&closing.settled);
                return Ok(closing.settled.clone());
            }
            Ok(Outcome::AlreadyStored(_)) => return Ok(closing.settled.clone()),
            Ok(Outcome::Superseded(stored)) => {
                metrics::settlement_disputed();
                tracing::error!(call_id = %call, stored = ?stored.fact, ours = ?closing.settled, "the call is settled otherwise; what is stored stands");
                return Ok(match stored.fact {
                    Fact::Settled(stored) => stored,
                    _ => closing.settled.clone(),
                });
            }
            Ok(Outcome::Refused) => {
                tracing::info!(call_id = %call, "something was stored of the call as it was to be settled, looking again");
                backoff.pause(&*world.clock).await;
            }
            Err(error) => return Err(stuck(call, &error)),
        }
    }
}

fn is_outdated(closing: &Closing, standing: &Standing) -> bool {
    let Standing { connected_at, position } = standing;
    let last = position.last.as_ref().map(|last| last.sequence);
    position.settled.is_some()
        || last != closing.last
        || (connected_at.is_some() && *connected_at != closing.settled.connected_at)
}

fn stuck(call: &CallId, error: &FactError) -> Closed {
    metrics::call_stuck("settlement");
    tracing::error!(call_id = %call, %error, "a call cannot be settled: somebody must look");
    Closed::Stuck
}

async fn remove(world: &World, settled: &Settled, revision: u64) -> Closed {
    let call = &settled.parties.call_id;
    let mut backoff = Backoff::default();
    loop {
        let error = match world.book.remove(call, revision).await {
            Ok(()) => return Closed::Removed(revision),
            Err(BucketError::Conflict { .. }) => match world.book.get(call).await {
                Ok(Some(entry)) => return Closed::Changed(entry),
                Ok(None) => return Closed::Removed(revision),
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::warn!(call_id = %call, %error, "a settled call could not be taken off the book yet");
        backoff.pause(&*world.clock).await;
    }
}
