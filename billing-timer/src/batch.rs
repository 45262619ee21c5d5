//! Ticks that are due together, stored by one flush and told.

use contract::Fact;
use contract::jetstream::batch::{BatchError, Entry};
use contract::wire::notice::Notice;

use crate::domain::work::{DueTick, NotWritten, Ticket};
use crate::metrics;
use crate::world::World;

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) tickets: Vec<Ticket>,
    /// The sequence of each tick.
    pub(crate) outcome: Result<Vec<u64>, NotWritten>,
}

/// Stores a batch, at once, and tells the parties once it is stored. One attempt: the ledger has what is stored read back
/// before the next.
///
/// There is nothing to wait for here: what was due before a wait need not be after it, as others may have ended and settled
/// the call.
pub(crate) async fn store(world: World, batch: Vec<DueTick>) -> Written {
    let (mut tickets, mut entries) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for DueTick {
        ticket,
        tick,
        guard,
        trace,
    } in batch
    {
        tickets.push(ticket);
        entries.push(Entry {
            fact: Fact::Tick(tick),
            guard,
            trace: trace.child(),
        });
    }
    let outcome = match world.facts.publish_batch(&entries).await {
        Ok(sequences) => {
            metrics::batch_stored(entries.iter().map(|entry| entry.fact.occurred_at()), world.clock.now());
            for entry in &entries {
                if let Fact::Tick(tick) = &entry.fact {
                    world.voice.tell_both(&tick.parties, &Notice::tick(tick)).await;
                }
            }
            Ok(sequences)
        }
        Err(error @ BatchError::Unacknowledged(_)) => {
            metrics::batch_failed("unacknowledged");
            tracing::warn!(%error, size = entries.len(), "ticks are not acknowledged; reading back what is stored");
            Err(NotWritten::Unanswered)
        }
        Err(error) => {
            metrics::batch_failed("refused");
            tracing::warn!(%error, size = entries.len(), "ticks are refused; reading back what is stored");
            Err(NotWritten::Refused)
        }
    };
    Written { tickets, outcome }
}
