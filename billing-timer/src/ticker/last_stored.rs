//! Reads the last stored messages of a call.

use std::collections::HashMap;

use contract::buckets::billing_active::BillingEnd;
use contract::jetstream::fact_store::{FactError, StoredFact};
use contract::jetstream::fact_stream::StoredMessage;
use contract::wire::subject;
use contract::{CallId, Fact, FactKind, FactStore};
use futures::future;

use crate::domain::call_facts::CallFacts;
use crate::domain::last_tick::LastTick;
use crate::domain::work::{LastStored, WorkToken};

/// The kinds of which every fact counts, not only the last one.
const MANY: [FactKind; 3] = [FactKind::RtpLost, FactKind::RtpResumed, FactKind::CreditGranted];

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
        future::try_join(facts.last(call, FactKind::Tick), facts.last(call, FactKind::Settled)).await?;
    Ok(LastStored {
        sequence,
        tick: tick.and_then(|stored| match stored.fact {
            Fact::Tick(tick) => Some(LastTick::new(&tick)),
            _ => None,
        }),
        end: None,
        settled: settled.and_then(|stored| match stored.fact {
            Fact::Settled(settled) => Some(Box::new(settled)),
            _ => None,
        }),
    })
}

fn end(fact: &Fact) -> Option<Box<BillingEnd>> {
    match fact {
        Fact::Ended(ended) => Some(Box::new(ended.into())),
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
    let mut by_call = by_call(messages);
    let read = tokens.into_iter().map(|token| {
        let messages = by_call.remove(&token.call).unwrap_or_default();
        let stored = collect(&messages);
        (token, stored)
    });
    Ok(read.collect())
}

fn by_call(messages: Vec<StoredMessage>) -> HashMap<CallId, Vec<StoredMessage>> {
    let mut by_call: HashMap<CallId, Vec<StoredMessage>> = HashMap::new();
    for message in messages {
        if let Some(call) = subject::call_of_fact(&message.subject) {
            by_call.entry(call).or_default().push(message);
        }
    }
    by_call
}

/// From the last message of each kind of one call. Of the kinds that are needed here, only an end may be unreadable.
fn collect(messages: &[StoredMessage]) -> Result<LastStored, FactError> {
    let mut stored = LastStored::default();
    for message in messages {
        stored.sequence = stored.sequence.max(message.sequence);
        let decode = || Fact::decode(&message.subject, &message.payload);
        match subject::parse_fact(&message.subject).map(|(_, kind)| kind) {
            Some(FactKind::Tick | FactKind::Settled) => match decode()? {
                Fact::Tick(tick) => stored.tick = Some(LastTick::new(&tick)),
                Fact::Settled(settled) => stored.settled = Some(Box::new(settled)),
                _ => {}
            },
            Some(FactKind::Ended) => stored.end = decode().ok().as_ref().and_then(end),
            _ => {}
        }
    }
    Ok(stored)
}

/// Reads the facts of a settlement, from any replica: if it lacks some, the settlement is rejected.
pub(crate) async fn read_for_settlement(facts: &FactStore, call: &CallId) -> Result<CallFacts, FactError> {
    let messages = facts.last_of_each_kind(std::slice::from_ref(call)).await?;
    for_settlement(facts, call, &messages).await
}

/// Reads the facts of many settlements together, as [`read_for_settlement`] does. Calls whose facts cannot be read are left out. At most
/// [`MAX_CALLS_PER_READ`](contract::jetstream::fact_store::MAX_CALLS_PER_READ) calls.
pub(crate) async fn read_many_for_settlement(facts: &FactStore, calls: &[CallId]) -> HashMap<CallId, CallFacts> {
    if calls.is_empty() {
        return HashMap::new();
    }
    let messages = match facts.last_of_each_kind(calls).await {
        Ok(messages) => messages,
        Err(error) => {
            tracing::info!(%error, calls = calls.len(), "facts of ended calls not read together");
            return HashMap::new();
        }
    };
    let by_call = by_call(messages);
    let reads = calls.iter().map(|call| {
        let messages = by_call.get(call).map(Vec::as_slice).unwrap_or_default();
        async move {
            let facts = for_settlement(facts, call, messages).await.ok()?;
            Some((call.clone(), facts))
        }
    });
    future::join_all(reads).await.into_iter().flatten().collect()
}

/// The last fact of each kind is enough, except for the losses of RTP and the grants, of which few calls have any.
async fn for_settlement(facts: &FactStore, call: &CallId, messages: &[StoredMessage]) -> Result<CallFacts, FactError> {
    let mut read = CallFacts::default();
    let mut many = Vec::new();
    for message in messages {
        // Of an unknown kind, only the sequence counts.
        read.sequence = read.sequence.max(message.sequence);
        let Some((_, kind)) = subject::parse_fact(&message.subject) else {
            continue;
        };
        if MANY.contains(&kind) {
            many.push((kind, message.sequence));
            continue;
        }
        match Fact::decode(&message.subject, &message.payload) {
            Ok(fact) => read.add(fact, message.sequence),
            // The entry has what is needed of these. An unreadable fact is parked when it is delivered.
            Err(error) if matches!(kind, FactKind::Requested | FactKind::RtpDetected | FactKind::Ended) => {
                tracing::error!(call_id = %call, %error, "stored fact of an ended call not decoded, settling without it: check its writer's version");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut all = Vec::new();
    for (kind, last) in many {
        all.extend(facts.all_of_kind(call, kind, last).await?);
    }
    all.sort_unstable_by_key(|stored| stored.sequence);
    for StoredFact { fact, sequence, .. } in all {
        read.add(fact, sequence);
    }
    Ok(read)
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
            stored_at: at(0),
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
