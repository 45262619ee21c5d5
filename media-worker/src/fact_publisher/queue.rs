//! The queue between a call and its publisher task, and the count of facts that wait in all queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::fact::Occurrence;
use contract::wire::terms::Terms;
use contract::{CallId, Fact, FactStore, Parties, TraceParent};
use tokio::sync::{mpsc, watch};

use super::last_sequence::LastSequence;
use super::{CallEnd, Deps, EndOutcome, FactPublisher};
use crate::metrics;

/// Facts of one call that may wait: one of each kind that occurs once, and a pair for each interruption of its media.
const CALL_CAPACITY: usize = 256;
/// Of these, the places kept for facts that occur once, such as `rtp_detected` and `ended`: they are never dropped.
const RESERVED: usize = 8;

/// The facts of all calls that wait for NATS.
#[derive(Debug)]
pub struct Backlog {
    capacity: usize,
    waiting: AtomicUsize,
}

impl Backlog {
    /// An empty backlog.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether it is three quarters full: new calls would risk the facts of the calls that exist.
    pub fn is_nearly_full(&self) -> bool {
        self.waiting() >= self.capacity / 4 * 3
    }

    /// The number of waiting facts.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.waiting() >= self.capacity
    }

    fn add(&self) {
        metrics::set_waiting_facts(self.waiting.fetch_add(1, Ordering::Relaxed) + 1);
    }

    pub(super) fn remove(&self, count: usize) {
        let before = self.waiting.fetch_sub(count, Ordering::Relaxed);
        metrics::set_waiting_facts(before.saturating_sub(count));
    }
}

/// One call's facts, on their way to its publisher.
#[derive(Debug)]
pub struct FactQueue {
    facts: mpsc::Sender<Entry>,
    end: watch::Receiver<Option<EndOutcome>>,
    backlog: Arc<Backlog>,
    last: LastSequence,
    store: FactStore,
}

/// The next item to store.
#[derive(Debug)]
pub(super) enum Entry {
    Fact {
        fact: Fact,
        /// When this worker observed the event.
        observed: Instant,
    },
    /// The last entry; without a [`CallEnd`] the call ends here without a fact.
    End(Option<CallEnd>),
}

impl FactQueue {
    /// Opens a call's queue and starts its publisher; `on_end` runs once the end of the call is stored or has failed.
    pub fn open(
        deps: Arc<Deps>,
        parties: Parties,
        terms: Option<Terms>,
        trace: TraceParent,
        on_end: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (sender, facts) = mpsc::channel(CALL_CAPACITY);
        let (set_end, end) = watch::channel(None);
        let (backlog, store, last) = (Arc::clone(&deps.backlog), deps.facts.clone(), LastSequence::default());
        let publisher = FactPublisher::new(deps, parties, terms, trace, last.clone());
        tokio::spawn(async move {
            let outcome = publisher.run(facts).await;
            on_end();
            set_end.send_replace(Some(outcome));
        });
        Self {
            facts: sender,
            end,
            backlog,
            last,
            store,
        }
    }

    /// Media will come soon: reads ahead what the first fact's condition needs. The call is accepted.
    pub fn read_ahead(&self, call_id: &CallId) {
        self.last.look_up(&self.store, call_id);
    }

    /// Queues a fact that this worker `observed` then. How it is stored follows from its declaration.
    pub fn publish(&self, fact: impl Into<Fact>, observed: Instant) {
        let fact = fact.into();
        let reserved = match fact.kind().declaration().occurrence {
            Occurrence::Once => 0,
            Occurrence::OncePer(_) | Occurrence::ManyPer(_) => RESERVED,
        };
        self.push(Entry::Fact { fact, observed }, reserved);
    }

    /// Whether a fact that may occur many times would be queued now.
    pub fn has_room(&self) -> bool {
        self.facts.capacity() > RESERVED && !self.backlog.is_full()
    }

    /// Queues the end of the call; `None` ends it on this worker without a fact.
    pub fn end(&self, end: Option<CallEnd>) {
        self.push(Entry::End(end), 0);
    }

    /// Waits until the end of the call is stored.
    pub async fn ended(&self) -> EndOutcome {
        let not_stored = || {
            Err(Refusal::new(
                RefusalCode::Internal,
                "the end of the call was not stored",
            ))
        };
        match self.end.clone().wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(not_stored),
            Err(_) => not_stored(),
        }
    }

    fn push(&self, entry: Entry, reserved: usize) {
        let droppable = reserved > 0;
        if self.facts.capacity() <= reserved || (droppable && self.backlog.is_full()) {
            metrics::fact_lost();
            tracing::error!(?entry, "fact lost: the queue is full; check the connection to NATS");
            return;
        }
        self.backlog.add();
        if let Err(error) = self.facts.try_send(entry) {
            self.backlog.remove(1);
            tracing::debug!(%error, "fact dropped: it came after the end of its call");
        }
    }
}
