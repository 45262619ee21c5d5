//! The end of a call's billing: its record stored, the parties told, its entry taken off the book, in this order.
//!
//! Whatever dies in between, the entry is still on the book and the rest is done by whoever reads it next; then the parties
//! may be told twice, never not at all.

use nats::billing_book::BillingEntry;
use nats::bucket::{BucketError, Revised};
use nats::fact::Settled;
use nats::facts::{Guard, Outcome};
use nats::notice::Notice;
use nats::{Fact, TraceParent};

use crate::backoff::Backoff;
use crate::domain::work::{Closing, Ticket};
use crate::metrics;
use crate::world::World;

/// What became of an entry.
#[derive(Debug)]
pub(crate) enum Closed {
    /// It is off the book, as it stood at this revision.
    Removed(u64),
    /// It had changed, to this.
    Changed(Revised<BillingEntry>),
    /// Its record cannot be stored: it stays on the book, and somebody must look.
    Stuck,
}

/// Settles a call and takes it off the book, waiting for as long as NATS is away. May be dropped at any point.
pub(crate) async fn close(world: World, closing: Closing) -> (Ticket, Closed) {
    let Closing {
        ticket,
        revision,
        settled,
        stored,
        trace,
    } = closing;
    let settled = if stored {
        Some(settled)
    } else {
        store(&world, settled, trace).await
    };
    let Some(settled) = settled else {
        return (ticket, Closed::Stuck);
    };
    if let Some(notice) = Notice::settled(&settled) {
        world.voice.tell_both(&settled.parties, &notice).await;
    }
    let closed = remove(&world, &settled, revision).await;
    (ticket, closed)
}

/// The record as it stands in the stream.
async fn store(world: &World, settled: Settled, trace: TraceParent) -> Option<Settled> {
    let call = settled.parties.call_id.clone();
    let fact = Fact::Settled(settled.clone());
    let mut backoff = Backoff::default();
    loop {
        match world.facts.publish(&fact, Guard::First, trace.child()).await {
            Ok(Outcome::Stored(_)) => {
                metrics::settled(&settled);
                return Some(settled);
            }
            Ok(Outcome::AlreadyStored(_)) => return Some(settled),
            Ok(Outcome::Superseded(stored)) => {
                metrics::settlement_disputed();
                tracing::error!(call_id = %call, stored = ?stored.fact, ours = ?settled, "the call is settled otherwise; what is stored stands");
                return Some(if let Fact::Settled(stored) = stored.fact {
                    stored
                } else {
                    settled
                });
            }
            Ok(Outcome::Refused) => {
                tracing::warn!(call_id = %call, "a settlement is refused though none is stored, trying again");
                backoff.pause(&*world.clock).await;
            }
            Err(error) => {
                metrics::call_stuck("settlement");
                tracing::error!(call_id = %call, %error, "a call cannot be settled: somebody must look");
                return None;
            }
        }
    }
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
