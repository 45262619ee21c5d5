//! Where a call stands in the stream.

use contract::jetstream::fact_store::{FactError, StoredFact};
use contract::{CallId, Fact, FactKind, FactStore, Timestamp};

use crate::domain::chain::LastTick;
use crate::domain::work::Position;

/// Reads where a call stands. Whatever is stored meanwhile is after [`Position::sequence`], which is read first.
pub(crate) async fn read(facts: &FactStore, call: &CallId) -> Result<Position, FactError> {
    let sequence = facts.sequence_of_call(call).await?;
    let (tick, settled) =
        futures::future::try_join(facts.last(call, FactKind::Tick), facts.last(call, FactKind::Settled)).await?;
    Ok(Position {
        sequence,
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

/// All that a call's record is made of, as it stands at one moment.
#[derive(Debug)]
pub(crate) struct Standing {
    /// As `rtp_detected` tells it, if it is stored and can be read.
    pub(crate) connected_at: Option<Timestamp>,
    pub(crate) position: Position,
}

/// Reads everything of a call, in this order: what is stored after the position's sequence may be missing, and nothing else.
pub(crate) async fn read_all(facts: &FactStore, call: &CallId) -> Result<Standing, FactError> {
    let position = read(facts, call).await?;
    let connected_at = match facts.last(call, FactKind::RtpDetected).await {
        Ok(stored) => stored.map(|stored| stored.fact.occurred_at()),
        // It is parked when it is delivered. The end of the call does not wait for that.
        Err(FactError::Stored(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(Standing { connected_at, position })
}
