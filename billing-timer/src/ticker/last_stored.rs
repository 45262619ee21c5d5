//! Reads the last stored messages of a call.

use contract::jetstream::fact_store::{FactError, StoredFact};
use contract::{CallId, Fact, FactKind, FactStore, Timestamp};

use crate::domain::last_tick::LastTick;
use crate::domain::work::LastStored;

/// Reads the last stored messages of a call. [`LastStored::sequence`] is read first, so a message stored during the read has
/// a higher sequence.
pub(crate) async fn read(facts: &FactStore, call: &CallId) -> Result<LastStored, FactError> {
    let sequence = facts.sequence_of_call(call).await?;
    let (tick, settled) =
        futures::future::try_join(facts.last(call, FactKind::Tick), facts.last(call, FactKind::Settled)).await?;
    Ok(LastStored {
        sequence,
        tick: tick.and_then(|StoredFact { fact, sequence, .. }| match fact {
            Fact::Tick(tick) => Some(LastTick { tick, sequence }),
            _ => None,
        }),
        settled: settled.and_then(|stored| match stored.fact {
            Fact::Settled(settled) => Some(settled),
            _ => None,
        }),
    })
}

/// The facts that a settlement is made from, as stored at one moment.
#[derive(Debug)]
pub(crate) struct SettlementFacts {
    /// From `rtp_detected`, if it is stored and can be decoded.
    pub(crate) connected_at: Option<Timestamp>,
    pub(crate) stored: LastStored,
}

/// Reads the facts of a settlement. The order of the reads guarantees that only messages after `stored.sequence` can be
/// missing.
pub(crate) async fn read_for_settlement(facts: &FactStore, call: &CallId) -> Result<SettlementFacts, FactError> {
    let stored = read(facts, call).await?;
    let connected_at = match facts.last(call, FactKind::RtpDetected).await {
        Ok(stored) => stored.map(|stored| stored.fact.occurred_at()),
        // An unreadable fact is parked when it is delivered. The end of the call does not wait for that.
        Err(FactError::Stored(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(SettlementFacts { connected_at, stored })
}
