//! Ticks that are due together: published as one atomic batch, and told to their parties once they are stored.

use contract::jetstream::batch::{BatchError, Entry};
use contract::jetstream::fact_store::PublishCondition;
use contract::{Fact, call_span, spans};

use tracing::{Instrument as _, Span};

use crate::deps::Deps;
use crate::domain::work::{DueTicks, TickFailure, WorkToken};
use crate::metrics;

/// A batch that is stored, and whose notices are due.
#[derive(Debug)]
pub(crate) struct StoredBatch {
    ticks: StoredTicks,
    entries: Vec<Entry>,
    /// One for each entry, or none.
    spans: Vec<Span>,
}

/// What is stored of each call of a batch.
#[derive(Debug)]
pub(crate) struct StoredTicks {
    tokens: Vec<WorkToken>,
    /// How many entries the calls up to each one have.
    ends: Vec<usize>,
    /// The sequence of each entry.
    sequences: Vec<u64>,
}

/// A batch that is not known to be stored.
#[derive(Debug)]
pub(crate) struct FailedBatch {
    pub(crate) tokens: Vec<WorkToken>,
    pub(crate) why: TickFailure,
}

impl StoredBatch {
    /// Sends the notices, in the order of the entries.
    pub(crate) async fn send_notices(self, deps: Deps) -> StoredTicks {
        let mut spans = self.spans.into_iter();
        for Entry { fact, .. } in &self.entries {
            let span = spans.next().unwrap_or_else(Span::none);
            if let Some(notice) = fact.notice() {
                let sending = deps.notices.send_to_both(fact.parties(), &notice);
                sending.instrument(span).await;
            }
        }
        self.ticks
    }
}

impl StoredTicks {
    /// The calls, each with the sequence of its last tick.
    pub(crate) fn last(&self) -> impl Iterator<Item = (&WorkToken, u64)> {
        let last = |(token, end): (_, &usize)| Some((token, *self.sequences.get(end.checked_sub(1)?)?));
        self.tokens.iter().zip(&self.ends).filter_map(last)
    }
}

/// Publishes a batch in one attempt. After a failure the scheduler requests a read of what is stored.
///
/// There is no retry here: during a wait another instance may end and settle the call, so its ticks may no longer be due.
pub(crate) async fn publish(deps: Deps, batch: Vec<DueTicks>) -> Result<StoredBatch, FailedBatch> {
    let (mut tokens, mut entries) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    let mut ends = Vec::with_capacity(batch.len());
    let mut open_spans = Vec::new();
    // When each tick was due, by the server's clock.
    let mut due = Vec::with_capacity(batch.len());
    for DueTicks {
        token,
        ticks,
        due_at,
        condition,
        trace,
    } in batch
    {
        tokens.push(token);
        let first = ticks.first().map(|first| first.at);
        due.extend(
            ticks
                .iter()
                .filter_map(|tick| Some(due_at.plus_millis(tick.at.millis_since(first?)))),
        );
        let conditions = std::iter::once(condition).chain(std::iter::repeat(PublishCondition::AfterPreviousEntry));
        for (tick, condition) in ticks.into_iter().zip(conditions) {
            let span = call_span!(
                "tick",
                "producer",
                callpulse.call_id = %tick.parties.call_id,
                callpulse.minute = tick.minute,
            );
            entries.push(Entry {
                trace: spans::child_of(&span, trace),
                fact: Fact::Tick(tick),
                condition,
            });
            if !span.is_disabled() {
                open_spans.push(span);
            }
        }
        ends.push(entries.len());
    }
    let why = match deps.facts.publish_batch(&entries).await {
        Ok(sequences) => {
            metrics::batch_stored(due.into_iter(), deps.server_now());
            return Ok(StoredBatch {
                ticks: StoredTicks {
                    tokens,
                    ends,
                    sequences,
                },
                entries,
                spans: open_spans,
            });
        }
        Err(error @ BatchError::Unacknowledged(_)) => {
            metrics::batch_failed("unacknowledged");
            tracing::warn!(%error, size = entries.len(), "batch of ticks not acknowledged: reading what is stored");
            TickFailure::Unacknowledged
        }
        Err(error) => {
            metrics::batch_failed("refused");
            tracing::warn!(%error, size = entries.len(), "batch of ticks rejected: reading what is stored");
            TickFailure::Rejected
        }
    };
    Err(FailedBatch { tokens, why })
}
