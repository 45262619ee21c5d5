//! Facts on their way into the stream: in order within a call, and no call waits for another.
//!
//! Each call has a small task with a bounded queue. While NATS is away facts wait there, with the times at which they
//! happened. Notices follow the acknowledgement of the fact behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use contract::buckets::active_calls::ActiveCalls;
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::CallClosed;
use contract::wire::fact::{RtpDetected, RtpLost, RtpResumed};
use contract::wire::notice::{self, Notice};
use contract::{EndReason, FactStore, Nats, Parties, Timestamp, TraceParent, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::meters;
use scribe::Scribe;

mod scribe;

/// Facts of one call that may wait. A call makes two, and a pair for each interruption of its media.
const CALL_CAPACITY: usize = 256;
/// Of these, so many are kept for what must never be dropped: the connection and the end.
const RESERVED: usize = 2;

/// Why a call ends, by whom, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// By whom.
    pub by: String,
    /// When it was over.
    pub ended_at: Timestamp,
}

/// How a call ended, once that is stored.
pub type Closed = Result<CallClosed, Refusal>;

/// What all calls share: the way to NATS, and the count of facts that wait for it.
#[derive(Debug)]
pub struct Post {
    nats: Nats,
    facts: FactStore,
    active: ActiveCalls,
    worker_id: WorkerId,
    capacity: usize,
    waiting: AtomicUsize,
    tasks: TaskTracker,
}

/// One call's queue.
#[derive(Debug)]
pub struct Outbox {
    entries: mpsc::Sender<Entry>,
    closed: watch::Receiver<Option<Closed>>,
    post: Arc<Post>,
}

#[derive(Debug)]
enum Entry {
    Detected(RtpDetected, Instant),
    Lost(RtpLost),
    Resumed(RtpResumed),
    Over(Option<Ending>),
}

impl Post {
    /// At most about `capacity` facts wait.
    pub fn new(nats: Nats, facts: FactStore, active: ActiveCalls, worker_id: WorkerId, capacity: usize) -> Self {
        Self {
            nats,
            facts,
            active,
            worker_id,
            capacity,
            waiting: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        }
    }

    /// Three quarters of the room are taken: no new call should be.
    pub fn is_crowded(&self) -> bool {
        self.waiting() >= self.capacity / 4 * 3
    }

    /// How many facts wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The stream, to read from.
    pub fn facts(&self) -> &FactStore {
        &self.facts
    }

    /// Tells parties what has no fact behind it.
    pub async fn tell(&self, parties: &Parties, roles: &[contract::Role], notice: &Notice) {
        notice::tell(&self.nats.notice_publisher, parties, roles, notice).await;
    }

    fn count(&self, change: isize) {
        let waiting = match change {
            1.. => self.waiting.fetch_add(1, Ordering::Relaxed) + 1,
            _ => self.waiting.fetch_sub(1, Ordering::Relaxed).saturating_sub(1),
        };
        meters::outbox(waiting);
    }
}

impl Outbox {
    /// Opens a call's queue; `on_over` runs when nothing more will come of it.
    pub fn open(
        post: Arc<Post>,
        parties: Parties,
        trace: TraceParent,
        on_over: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (entries, queue) = mpsc::channel(CALL_CAPACITY);
        let (close, closed) = watch::channel(None);
        let scribe = Scribe {
            post: Arc::clone(&post),
            parties,
            trace,
            connected_at: None,
        };
        post.tasks.spawn(async move {
            let outcome = scribe.run(queue).await;
            on_over();
            close.send_replace(Some(outcome));
        });
        Self { entries, closed, post }
    }

    /// The call is connected; `seen` is when the packet came.
    pub fn detected(&self, fact: RtpDetected, seen: Instant) {
        self.push(Entry::Detected(fact, seen), 0);
    }

    /// A party's media is lost.
    pub fn lost(&self, fact: RtpLost) {
        self.push(Entry::Lost(fact), RESERVED);
    }

    /// A party's media is back.
    pub fn resumed(&self, fact: RtpResumed) {
        self.push(Entry::Resumed(fact), RESERVED);
    }

    /// The call is over here: with a fact, or without one where there is none to tell.
    pub fn over(&self, ending: Option<Ending>) {
        self.push(Entry::Over(ending), 0);
    }

    /// Waits until the end is stored.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.closed.clone();
        let lost = || {
            Err(Refusal::new(
                RefusalCode::Internal,
                "the end of the call was not stored",
            ))
        };
        match closed.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    fn push(&self, entry: Entry, reserved: usize) {
        let full = self.entries.capacity() <= reserved || (reserved > 0 && self.post.waiting() >= self.post.capacity);
        if full {
            meters::dropped();
            tracing::error!(?entry, "the outbox is full: a fact is lost");
            return;
        }
        self.post.count(1);
        if let Err(refused) = self.entries.try_send(entry) {
            // Closed: what comes after the end of a call has no place in its record.
            self.post.count(-1);
            tracing::debug!(%refused, "nothing follows the end of a call");
        }
    }
}
