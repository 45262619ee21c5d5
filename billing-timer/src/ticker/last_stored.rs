//! Reads the last stored messages of a call.

use std::collections::HashMap;

use contract::buckets::billing_index::BillingEnd;
use contract::jetstream::fact_store::{FactError, StoredFact};
use contract::jetstream::fact_stream::StoredMessage;
use contract::wire::subject;
use contract::{CallId, Fact, FactKind, FactStore, Timestamp};

use crate::domain::last_tick::LastTick;
use crate::domain::work::{LastStored, WorkToken};

/// Reads the last stored messages of a call from the leader. [`LastStored::sequence`] is read first, so a message stored during the read has
/// a higher sequence.
pub(crate) async fn read(facts: &FactStore, call: &CallId) -> Result<LastStored, FactError> {
    let stored = read_without_end(facts, call).await?;
    let end = match facts.last(call, FactKind::Ended).await {
        Ok(ended) => ended.as_ref().and_then(|stored| end(&stored.fact)),
        // An unreadable fact is parked when it is delivered. Ticks do not wait for that.
        Err(FactError::Stored(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(LastStored { end, ..stored })
}

async fn read_without_end(facts: &FactStore, call: &CallId) -> Result<LastStored, FactError> {
    let sequence = facts.sequence_of_call(call).await?;
    let (tick, settled) =
        futures::future::try_join(facts.last(call, FactKind::Tick), facts.last(call, FactKind::Settled)).await?;
    Ok(LastStored {
        sequence,
        tick: tick.and_then(|StoredFact { fact, sequence, .. }| match fact {
            Fact::Tick(tick) => Some(LastTick::new(&tick, sequence)),
            _ => None,
        }),
        end: None,
        settled: settled.and_then(|stored| match stored.fact {
            Fact::Settled(settled) => Some(Box::new(settled)),
            _ => None,
        }),
    })
}

fn end(fact: &Fact) -> Option<BillingEnd> {
    match fact {
        Fact::Ended(ended) => Some(ended.into()),
        _ => None,
    }
}

/// Reads the last stored messages of many calls at once, from any replica. A replica that lags costs a rejected tick, after
/// which the call is read from the leader; see [`read`].
pub(crate) async fn read_many(
    facts: &FactStore,
    tokens: Vec<WorkToken>,
) -> Result<Vec<(WorkToken, Result<LastStored, FactError>)>, (Vec<WorkToken>, FactError)> {
    let calls: Vec<CallId> = tokens.iter().map(|token| token.call.clone()).collect();
    let messages = match facts.last_of_each_kind(&calls).await {
        Ok(messages) => messages,
        Err(error) => return Err((tokens, error)),
    };
    let mut by_call: HashMap<CallId, Vec<StoredMessage>> = HashMap::new();
    for message in messages {
        if let Some(call) = subject::call_of_fact(&message.subject) {
            by_call.entry(call).or_default().push(message);
        }
    }
    let read = tokens.into_iter().map(|token| {
        let messages = by_call.remove(&token.call).unwrap_or_default();
        let stored = collect(&messages);
        (token, stored)
    });
    Ok(read.collect())
}

/// From the last message of each kind of one call. Of the kinds that are needed here, only an end may be unreadable.
fn collect(messages: &[StoredMessage]) -> Result<LastStored, FactError> {
    let mut stored = LastStored::default();
    for message in messages {
        stored.sequence = stored.sequence.max(message.sequence);
        let decode = || Fact::decode(&message.subject, &message.payload);
        match subject::parse_fact(&message.subject).map(|(_, kind)| kind) {
            Some(FactKind::Tick | FactKind::Settled) => match decode()? {
                Fact::Tick(tick) => stored.tick = Some(LastTick::new(&tick, message.sequence)),
                Fact::Settled(settled) => stored.settled = Some(Box::new(settled)),
                _ => {}
            },
            Some(FactKind::Ended) => stored.end = decode().ok().as_ref().and_then(end),
            _ => {}
        }
    }
    Ok(stored)
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
    // The settlement takes the end from the entry.
    let stored = read_without_end(facts, call).await?;
    let connected_at = match facts.last(call, FactKind::RtpDetected).await {
        Ok(stored) => stored.map(|stored| stored.fact.occurred_at()),
        // An unreadable fact is parked when it is delivered. The end of the call does not wait for that.
        Err(FactError::Stored(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(SettlementFacts { connected_at, stored })
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;
    use crate::testing::{at, ended};

    fn message(sequence: u64, payload: bytes::Bytes) -> StoredMessage {
        StoredMessage {
            subject: subject::fact(&"c".parse().unwrap(), FactKind::Ended),
            sequence,
            headers: HeaderMap::new(),
            payload,
        }
    }

    #[test]
    fn a_stored_end_is_found_and_an_unreadable_one_does_not_stop_the_ticks() {
        let fact = Fact::from(ended("c", 2_500, Some(0)));
        let stored = collect(&[message(7, fact.encode().unwrap())]).unwrap();
        assert_eq!(stored.end.map(|end| end.ended_at), Some(at(2_500)));
        let unreadable = collect(&[message(8, "{}".into())]).unwrap();
        assert_eq!((unreadable.sequence, unreadable.end), (8, None));
    }
}
