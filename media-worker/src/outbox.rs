//! Facts on their way into the stream: in order within a call, and no call waits for another.
//!
//! Each call has a small task with a bounded queue. While NATS is away facts wait there, with the times at which they
//! happened. Notices follow the acknowledgement of the fact behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nats::active_calls::ActiveCalls;
use nats::command::CallClosed;
use nats::fact::{Ended, RtpDetected, RtpLost, RtpResumed};
use nats::facts::{FactError, StoredFact};
use nats::notice::{self, Notice};
use nats::request::{Refusal, RefusalCode};
use nats::{EndReason, Fact, FactKind, FactStore, Guard, Nats, Outcome, Parties, Timestamp, TraceParent, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::meters;

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
    pub async fn tell(&self, parties: &Parties, roles: &[nats::Role], notice: &Notice) {
        notice::tell(&self.nats.herald, parties, roles, notice).await;
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

/// Writes one call's facts down.
struct Scribe {
    post: Arc<Post>,
    parties: Parties,
    trace: TraceParent,
    connected_at: Option<Timestamp>,
}

impl Scribe {
    async fn run(mut self, mut queue: mpsc::Receiver<Entry>) -> Closed {
        let nothing = CallClosed {
            ended_at: None,
            connected_at: None,
        };
        while let Some(entry) = queue.recv().await {
            let closed = match entry {
                Entry::Detected(fact, seen) => self.detected(fact, seen).await,
                Entry::Lost(fact) => {
                    let notice = Notice::MediaLost {
                        call_id: self.parties.call_id.clone(),
                        party: fact.party,
                    };
                    self.media(fact.into(), notice, "lost").await
                }
                Entry::Resumed(fact) => {
                    let notice = Notice::MediaResumed {
                        call_id: self.parties.call_id.clone(),
                        party: fact.party,
                    };
                    self.media(fact.into(), notice, "resumed").await
                }
                Entry::Over(Some(ending)) => Some(self.end(ending).await),
                Entry::Over(None) => Some(Ok(nothing.clone())),
            };
            self.post.count(-1);
            if let Some(closed) = closed {
                queue.close();
                while queue.try_recv().is_ok() {
                    self.post.count(-1);
                }
                return closed;
            }
        }
        Ok(nothing)
    }

    async fn detected(&mut self, fact: RtpDetected, seen: Instant) -> Option<Closed> {
        self.connected_at = Some(fact.connected_at);
        let stored = match self.store_connection(&fact.clone().into()).await {
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {
                meters::connected(seen.elapsed());
                Some(fact)
            }
            Ok(Outcome::Superseded(stored)) => match *stored {
                StoredFact {
                    fact: Fact::RtpDetected(stored),
                    ..
                } => {
                    tracing::warn!(call_id = %self.parties.call_id, worker_id = %stored.worker_id, "was connected before");
                    self.connected_at = Some(stored.connected_at);
                    Some(stored)
                }
                _ => None,
            },
            Ok(Outcome::Refused) => {
                tracing::info!(call_id = %self.parties.call_id, "connected, and ended by somebody else before");
                None
            }
            Err(error) => self.lost_fact("rtp_detected", &error.to_string()),
        };
        if let Some(stored) = stored {
            self.tell(&Notice::connected(&stored)).await;
            tracing::info!(
                call_id = %self.parties.call_id,
                connected_at = %stored.connected_at,
                detected_from = %stored.detected_from,
                ssrc = stored.ssrc,
                "connected"
            );
        }
        None
    }

    async fn media(&self, fact: Fact, notice: Notice, event: &'static str) -> Option<Closed> {
        match self.store(&fact, Guard::WhileOpen).await {
            Ok(Outcome::Superseded(_) | Outcome::Refused) => {
                tracing::info!(call_id = %self.parties.call_id, fact = %fact.kind(), "was ended by somebody else before");
            }
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {
                meters::media(event);
                tracing::info!(call_id = %self.parties.call_id, fact = %fact.kind(), "media {event}");
                self.tell(&notice).await;
            }
            Err(error) => drop(self.lost_fact::<()>(fact.kind().as_str(), &error.to_string())),
        }
        None
    }

    async fn end(&self, Ending { reason, by, ended_at }: Ending) -> Closed {
        let connected_at = self.connected_at;
        if connected_at.is_none() && self.is_elsewhere().await {
            tracing::info!(call_id = %self.parties.call_id, ?reason, "given up here: another worker hosts the call");
            return Ok(CallClosed {
                ended_at: None,
                connected_at: None,
            });
        }
        // Both are wall-clock times, and a clock may have been set back between them.
        let ended_at = connected_at.map_or(ended_at, |connected_at| ended_at.max(connected_at));
        let fact = Ended {
            parties: self.parties.clone(),
            ended_at,
            reason,
            by,
            connected_at,
        };
        match self.store(&fact.clone().into(), Guard::First).await {
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {
                meters::ended(reason);
                tracing::info!(call_id = %self.parties.call_id, ?reason, by = fact.by, %ended_at, "ended");
                if let Some(notice) = Notice::ended_unconnected(&fact) {
                    self.tell(&notice).await;
                }
                if let Err(error) = self.post.active.release(&self.parties).await {
                    tracing::warn!(call_id = %self.parties.call_id, %error, "the parties' locks are left to who meets them");
                }
                Ok(CallClosed {
                    ended_at: Some(ended_at),
                    connected_at,
                })
            }
            Ok(Outcome::Superseded(stored)) => match stored.fact {
                Fact::Ended(stored) => {
                    tracing::info!(call_id = %self.parties.call_id, by = stored.by, "was ended by somebody else before");
                    Ok(CallClosed {
                        ended_at: Some(stored.ended_at),
                        connected_at: stored.connected_at,
                    })
                }
                _ => self.not_ended("something else is stored in its place"),
            },
            Ok(Outcome::Refused) => self.not_ended("the guard does not hold"),
            Err(error) => self.not_ended(&error.to_string()),
        }
    }

    /// Stores the connection, if the call has neither one nor an end: an edge may have ended it while this worker was cut off.
    ///
    /// The stream takes one guard for a message, and this is a matter of two facts. So it is that nothing of the call was
    /// stored since it had neither.
    async fn store_connection(&self, fact: &Fact) -> Result<Outcome, FactError> {
        let call = &self.parties.call_id;
        loop {
            self.post.nats.connected().await;
            let sequence = match self.standing().await {
                Ok(Ok(sequence)) => sequence,
                Ok(Err(outcome)) => return Ok(outcome),
                Err(error @ FactError::Read { .. }) => {
                    tracing::warn!(call_id = %call, %error, "whether the call is over is not known yet, looking again");
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.store(fact, Guard::CallUnchangedSince(sequence)).await? {
                Outcome::Refused => {}
                outcome => return Ok(outcome),
            }
        }
    }

    /// Whether another worker was chosen for the call: room was made here for an edge that had given up waiting for it, and
    /// its taking it back may have overtaken the making.
    async fn is_elsewhere(&self) -> bool {
        let call = &self.parties.call_id;
        loop {
            self.post.nats.connected().await;
            match self.post.facts.last(call, FactKind::Accepted).await {
                Ok(Some(StoredFact {
                    fact: Fact::Accepted(accepted),
                    ..
                })) => return accepted.worker_id != self.post.worker_id,
                Ok(_) => return false,
                Err(error @ FactError::Read { .. }) => {
                    tracing::warn!(call_id = %call, %error, "who hosts the call is not known yet, looking again");
                }
                Err(_) => return false,
            }
        }
    }

    /// The sequence of the call's last fact; or what comes of storing a connection that is there, or too late.
    async fn standing(&self) -> Result<Result<u64, Outcome>, FactError> {
        let (facts, call) = (&self.post.facts, &self.parties.call_id);
        let Some(last) = facts.last_of_call(call).await? else {
            return Ok(Ok(0));
        };
        let sequence = last.sequence;
        // All that there is before a connection.
        if matches!(last.fact, Fact::Requested(_) | Fact::Accepted(_)) {
            return Ok(Ok(sequence));
        }
        if facts.last(call, FactKind::Ended).await?.is_some() {
            return Ok(Err(Outcome::Refused));
        }
        let connection = facts.last(call, FactKind::RtpDetected).await?;
        Ok(connection.map_or(Ok(sequence), |stored| Err(Outcome::Superseded(Box::new(stored)))))
    }

    async fn store(&self, fact: &Fact, guard: Guard) -> Result<Outcome, FactError> {
        // Each attempt without a connection would leave a copy in the client's buffer.
        self.post.nats.connected().await;
        self.post.facts.publish(fact, guard, self.trace.child()).await
    }

    async fn tell(&self, notice: &Notice) {
        notice::tell_both(&self.post.nats.herald, &self.parties, notice).await;
    }

    fn not_ended(&self, reason: &str) -> Closed {
        self.lost_fact::<()>("ended", reason);
        Err(Refusal::new(
            RefusalCode::Internal,
            format!("the end of the call was not stored: {reason}"),
        ))
    }

    fn lost_fact<T>(&self, fact: &str, reason: &str) -> Option<T> {
        meters::dropped();
        tracing::error!(call_id = %self.parties.call_id, fact, reason, "a fact cannot be stored and is lost");
        None
    }
}
