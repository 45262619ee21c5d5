//! Where a call stands in the stream.

use nats::facts::{FactError, StoredFact};
use nats::{CallId, Fact, FactKind, FactStore};

use crate::domain::chain::LastTick;
use crate::domain::work::Position;

/// Reads a call's last tick and its settlement.
pub(crate) async fn read(facts: &FactStore, call: &CallId) -> Result<Position, FactError> {
    let (tick, settled) =
        futures::future::try_join(facts.last(call, FactKind::Tick), facts.last(call, FactKind::Settled)).await?;
    Ok(Position {
        last: tick.and_then(|StoredFact { fact, sequence, .. }| match fact {
            Fact::Tick(tick) => Some(LastTick { tick, sequence }),
            _ => None,
        }),
        settled: settled.and_then(|stored| match stored.fact {
            Fact::Settled(settled) => Some(settled),
            _ => None,
        }),
    })
}
