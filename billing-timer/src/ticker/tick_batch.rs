//! Publishes ticks that are due together as one atomic batch, then sends their notices.

use contract::jetstream::batch::{BatchError, Entry};
use contract::jetstream::fact_store::PublishCondition;
use contract::{Fact, call_span, spans};

use tracing::{Instrument as _, Span};

use crate::deps::Deps;
use crate::domain::work::{DueTicks, TickFailure, WorkToken};
use crate::metrics;

/// The result of a batch.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) tokens: Vec<WorkToken>,
    /// The sequence of each call's last tick.
    pub(crate) outcome: Result<Vec<u64>, TickFailure>,
}

/// Publishes a batch in one attempt. After a failure the scheduler requests a read of what is stored.
///
/// There is no retry here: during a wait another instance may end and settle the call, so its ticks may no longer be due.
pub(crate) async fn publish(deps: Deps, batch: Vec<DueTicks>) -> Published {
    let (mut tokens, mut entries) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    // How many entries the calls up to each one have.
    let mut ends = Vec::with_capacity(batch.len());
    // One for each entry, or none.
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
    let outcome = match deps.facts.publish_batch(&entries).await {
        Ok(sequences) => {
            metrics::batch_stored(due.into_iter(), deps.server_now());
            let mut spans = open_spans.into_iter();
            for entry in &entries {
                let span = spans.next().unwrap_or_else(Span::none);
                if let Some(notice) = entry.fact.notice() {
                    let sending = deps.notices.send_to_both(entry.fact.parties(), &notice);
                    sending.instrument(span).await;
                }
            }
            let last = ends.iter().filter_map(|end| sequences.get(end.checked_sub(1)?));
            Ok(last.copied().collect())
        }
        Err(error @ BatchError::Unacknowledged(_)) => {
            metrics::batch_failed("unacknowledged");
            tracing::warn!(%error, size = entries.len(), "batch of ticks not acknowledged; reading what is stored");
            Err(TickFailure::Unacknowledged)
        }
        Err(error) => {
            metrics::batch_failed("refused");
            tracing::warn!(%error, size = entries.len(), "batch of ticks rejected; reading what is stored");
            Err(TickFailure::Rejected)
        }
    };
    Published { tokens, outcome }
}
