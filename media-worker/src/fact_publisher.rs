//! Stores the facts of calls in order, and sends the notice of each fact once JetStream has acknowledged it.
//!
//! Each call has a bounded [`queue`] and a publisher task of its own, so no call waits for another. While NATS is
//! unreachable, facts wait in their queue with the times at which they happened.

mod last_sequence;
mod queue;

use std::sync::Arc;
use std::time::Instant;

use contract::buckets::active_calls::ActiveCalls;
use contract::jetstream::fact_store::{FactError, StoredFact, StoredOfCall};
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::CallClosed;
use contract::wire::fact::{Ended, Occurrence, RtpDetected};
use contract::wire::notice::Notice;
use contract::wire::terms::Terms;
use contract::{
    EndReason, Fact, FactKind, FactStore, Nats, Outcome, Parties, PublishCondition, Role, Timestamp, TraceParent,
    WorkerId, call_span, spans,
};
use tokio::sync::mpsc;
use tracing::{Instrument as _, Span};

use crate::clock_reading::ClockReading;
use crate::metrics;
use last_sequence::LastSequence;
use queue::Entry;
pub use queue::{Backlog, FactQueue};

/// Dependencies shared by all publishers.
#[derive(Debug)]
pub struct Deps {
    /// The connection: publishers wait for it, and send notices through it.
    pub nats: Nats,
    /// The stream of facts.
    pub facts: FactStore,
    /// The locks of the parties, released when a call ends.
    pub active_calls: ActiveCalls,
    /// This worker.
    pub worker_id: WorkerId,
    /// The count of waiting facts.
    pub backlog: Arc<Backlog>,
}

/// How a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEnd {
    /// Why it ends.
    pub reason: EndReason,
    /// The party or the service that ends it.
    pub by: String,
    /// When it was over.
    pub at: ClockReading,
    /// The party whose silence alone ended it.
    pub party: Option<Role>,
}

/// The stored end of a call, or the reason why it was not stored.
pub type EndOutcome = Result<CallClosed, Refusal>;

/// The least disagreement of the wall clock with the monotonic clock that is reported as a step, in milliseconds.
const CLOCK_STEP_MS: u64 = 500;

/// No end is stored by this worker.
const NO_END: CallClosed = CallClosed {
    ended_at: None,
    connected_at: None,
};

/// The task that stores one call's facts.
struct FactPublisher {
    deps: Arc<Deps>,
    parties: Parties,
    terms: Option<Terms>,
    trace: TraceParent,
    last: LastSequence,
    connected_at: Option<Timestamp>,
    /// The connection on both clocks, if this worker saw it.
    connected: Option<ClockReading>,
}

impl FactPublisher {
    fn new(deps: Arc<Deps>, parties: Parties, terms: Option<Terms>, trace: TraceParent, last: LastSequence) -> Self {
        Self {
            deps,
            parties,
            terms,
            trace,
            last,
            connected_at: None,
            connected: None,
        }
    }

    /// Publishes until the call has ended.
    async fn run(mut self, mut queue: mpsc::Receiver<Entry>) -> EndOutcome {
        while let Some(entry) = queue.recv().await {
            let end = match entry {
                Entry::Fact { fact, observed } => {
                    let span = self.span(fact.kind(), observed);
                    self.publish(fact, observed).instrument(span).await;
                    None
                }
                Entry::End(Some(end)) => {
                    let span = self.span(FactKind::Ended, end.at.instant);
                    Some(self.publish_end(end).instrument(span).await)
                }
                Entry::End(None) => Some(Ok(NO_END)),
            };
            self.deps.backlog.remove(1);
            if let Some(outcome) = end {
                queue.close();
                while queue.try_recv().is_ok() {
                    self.deps.backlog.remove(1);
                }
                return outcome;
            }
        }
        Ok(NO_END)
    }

    /// From here until the notices of the fact are sent.
    fn span(&self, kind: FactKind, observed: Instant) -> Span {
        let span = call_span!(
            "fact",
            "internal",
            otel.name = kind.as_str(),
            callpulse.call_id = %self.parties.call_id,
            callpulse.age_ms = observed.elapsed().as_millis() as u64,
        );
        spans::child_of(&span, self.trace);
        span
    }

    async fn publish(&mut self, fact: Fact, observed: Instant) {
        let (call_id, kind) = (self.parties.call_id.clone(), fact.kind());
        let fact = self.with_terms(fact);
        self.note_connection(&fact, Some(observed));
        // An edge may have ended the call while this worker was cut off.
        let condition = match kind.declaration().occurrence {
            Occurrence::Once => PublishCondition::OnceWhileOpen,
            Occurrence::OncePer(_) | Occurrence::ManyPer(_) => PublishCondition::WhileOpen,
        };
        let stored = match self.store_observed(&fact, condition, observed).await {
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {
                metrics::fact_stored(&fact, observed.elapsed());
                fact
            }
            Ok(Outcome::Superseded(stored)) if stored.fact.kind() == kind => {
                tracing::warn!(%call_id, fact = %kind, stored = ?stored.fact, "fact already stored by another worker: keeping it");
                self.note_connection(&stored.fact, None);
                stored.fact
            }
            Ok(Outcome::Superseded(_) | Outcome::ConditionFailed) => {
                tracing::info!(%call_id, fact = %kind, "fact not stored: another service has ended the call");
                return;
            }
            Err(error) => return self.fact_lost(kind, &error.to_string()),
        };
        let acknowledged = Instant::now();
        self.notify(stored.notice()).await;
        metrics::notices_sent(acknowledged.elapsed());
        tracing::info!(%call_id, fact = %kind, at = %stored.occurred_at(), "fact stored");
    }

    fn with_terms(&self, fact: Fact) -> Fact {
        match fact {
            Fact::RtpDetected(detected) => Fact::RtpDetected(RtpDetected {
                terms: self.terms.clone(),
                ..detected
            }),
            other => other,
        }
    }

    fn note_connection(&mut self, fact: &Fact, observed: Option<Instant>) {
        if let Fact::RtpDetected(detected) = fact {
            let wall = detected.connected_at;
            self.connected_at = Some(wall);
            self.connected = observed.map(|instant| ClockReading { instant, wall });
        }
    }

    async fn publish_end(&self, CallEnd { reason, by, at, party }: CallEnd) -> EndOutcome {
        let (call_id, connected_at) = (&self.parties.call_id, self.connected_at);
        let duration = self.connected.map(|connected| at.since(connected));
        let clock_step_ms = self.connected.map(|connected| connected.step_until(at));
        let ended_at = match connected_at.zip(duration) {
            Some((connected_at, duration)) => connected_at.plus(duration),
            // Another worker's clock: it may differ from this one's.
            None => connected_at.map_or(at.wall, |connected_at| at.wall.max(connected_at)),
        };
        if let Some(step_ms) = clock_step_ms.filter(|step| step.unsigned_abs() >= CLOCK_STEP_MS) {
            metrics::clock_stepped();
            tracing::warn!(%call_id, step_ms, "wall clock was set during the call: the bill is not affected; check time synchronisation");
        }
        let fact = Ended {
            parties: self.parties.clone(),
            ended_at,
            reason,
            by,
            connected_at,
            duration_ms: duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            clock_step_ms,
            party,
            terms: self.terms.clone(),
        };
        match self.store_end(&fact.clone().into()).await {
            Ok(Some(Outcome::Stored(_) | Outcome::AlreadyStored(_))) => {
                metrics::call_ended(reason);
                tracing::info!(%call_id, ?reason, by = fact.by, %ended_at, "call ended");
                self.notify(fact.notice()).await;
                if let Err(error) = self.deps.active_calls.release(&self.parties).await {
                    tracing::warn!(%call_id, %error, "locks of the parties not released: a later check releases them");
                }
                Ok(CallClosed {
                    ended_at: Some(ended_at),
                    connected_at,
                })
            }
            Ok(Some(Outcome::Superseded(stored))) => match stored.fact {
                Fact::Ended(stored) => {
                    tracing::info!(%call_id, by = stored.by, "call already ended by another service");
                    Ok(CallClosed {
                        ended_at: Some(stored.ended_at),
                        connected_at: stored.connected_at,
                    })
                }
                _ => self.end_lost("another fact is stored in its place"),
            },
            Ok(Some(Outcome::ConditionFailed)) => self.end_lost("the condition of the publication does not hold"),
            Ok(None) => {
                tracing::info!(%call_id, ?reason, "call released without a fact: another worker hosts it");
                Ok(NO_END)
            }
            Err(error) => self.end_lost(&error.to_string()),
        }
    }

    /// Stores the end, or nothing (`None`) if another worker was chosen for the call.
    ///
    /// Until the call is connected, its acceptance may name another worker at any moment. The end therefore requires that
    /// nothing of the call was stored after the acceptance was looked up.
    async fn store_end(&self, end: &Fact) -> Result<Option<Outcome>, FactError> {
        if self.connected_at.is_some() {
            return self.store(end, PublishCondition::OnceWhileOpen).await.map(Some);
        }
        let call_id = &self.parties.call_id;
        loop {
            self.deps.nats.connected().await;
            let condition = match self.deps.facts.last_of_call(call_id).await {
                Ok(None) => PublishCondition::CallUnchangedSince(0),
                Ok(Some(StoredOfCall { fact, sequence, .. })) => match fact {
                    Some(Fact::Accepted(accepted)) if accepted.worker_id != self.deps.worker_id => return Ok(None),
                    // It rings: the acceptance by this worker was never stored.
                    Some(Fact::Requested(_)) if end.reason() == Some(EndReason::MediaTimeout) => return Ok(None),
                    Some(Fact::Requested(_) | Fact::Accepted(_)) => PublishCondition::CallUnchangedSince(sequence),
                    // The call is over, or connected on another worker, or this is a kind of a later version.
                    _ if self.is_hosted_elsewhere().await => return Ok(None),
                    None if self.is_unconnected_and_open().await => PublishCondition::CallUnchangedSince(sequence),
                    _ => PublishCondition::OnceWhileOpen,
                },
                Err(error @ FactError::Read { .. }) => {
                    tracing::warn!(%call_id, %error, "last fact of the call not read: retrying");
                    continue;
                }
                Err(_) => PublishCondition::OnceWhileOpen,
            };
            match self.store(end, condition).await? {
                Outcome::ConditionFailed if condition != PublishCondition::OnceWhileOpen => {}
                outcome => return Ok(Some(outcome)),
            }
        }
    }

    /// Whether another worker was chosen for the call. An edge that has given up waiting for `open_call` chooses another
    /// worker, and its `close_call` may arrive here before the `open_call` does.
    async fn is_hosted_elsewhere(&self) -> bool {
        let call_id = &self.parties.call_id;
        loop {
            self.deps.nats.connected().await;
            match self.deps.facts.last(call_id, FactKind::Accepted).await {
                Ok(Some(StoredFact {
                    fact: Fact::Accepted(accepted),
                    ..
                })) => return accepted.worker_id != self.deps.worker_id,
                Ok(_) => return false,
                Err(error @ FactError::Read { .. }) => {
                    tracing::warn!(%call_id, %error, "acceptance of the call not read: retrying");
                }
                Err(_) => return false,
            }
        }
    }

    /// Whether neither a connection nor an end is stored.
    async fn is_unconnected_and_open(&self) -> bool {
        let call_id = &self.parties.call_id;
        for kind in [FactKind::RtpDetected, FactKind::Ended] {
            if !matches!(self.deps.facts.last(call_id, kind).await, Ok(None)) {
                return false;
            }
        }
        true
    }

    /// The server's time of the fact follows from its age, whatever the wall clock does meanwhile.
    async fn store_observed(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        observed: Instant,
    ) -> Result<Outcome, FactError> {
        self.deps.nats.connected().await;
        let facts = self.deps.facts.observed(observed);
        // One round trip instead of two or more. Up to this sequence are the acceptance and what this worker stored after it:
        // nothing of this kind, and no end.
        let known = self.last.take();
        if let Some(sequence) = known.filter(|_| condition == PublishCondition::OnceWhileOpen) {
            let unchanged = PublishCondition::CallUnchangedSince(sequence);
            let outcome = facts.publish(fact, unchanged, self.trace).await?;
            if let Some(sequence) = outcome.sequence() {
                self.last.set(sequence);
            }
            if outcome != Outcome::ConditionFailed {
                return Ok(outcome);
            }
        }
        facts.publish(fact, condition, self.trace).await
    }

    async fn store(&self, fact: &Fact, condition: PublishCondition) -> Result<Outcome, FactError> {
        // Each attempt without a connection would leave a copy in the client's buffer.
        self.deps.nats.connected().await;
        self.deps.facts.publish(fact, condition, self.trace).await
    }

    async fn notify(&self, notice: Option<Notice>) {
        if let Some(notice) = notice {
            let publisher = &self.deps.nats.notice_publisher;
            publisher.publish(&self.parties, notice.recipients(), &notice).await;
        }
    }

    fn end_lost(&self, reason: &str) -> EndOutcome {
        self.fact_lost(FactKind::Ended, reason);
        Err(Refusal::new(
            RefusalCode::Internal,
            format!("the end of the call was not stored: {reason}"),
        ))
    }

    fn fact_lost(&self, kind: FactKind, reason: &str) {
        metrics::fact_lost();
        tracing::error!(call_id = %self.parties.call_id, fact = %kind, reason, "fact rejected by NATS: check accounts.conf and the stream");
    }
}
