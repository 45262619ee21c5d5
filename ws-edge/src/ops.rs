//! The operations feed, `/ops/live`: every live call and the fleet, pushed to operators as it changes.
//!
//! A node keeps one read model, and only while it has viewers: without viewers it asks NATS for nothing. [`watch`] reads what
//! is stored and collects reports from workers and edges, [`read_model`] folds it into rows, [`session`] serves one viewer.
//! Nothing here changes a call, and no viewer slows another: slow viewers are resynchronised instead of queued for.

mod edge_report;
mod message;
mod read_model;
mod reports;
mod row;
pub mod session;
mod timeline;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::views::history::History;
use contract::{Nats, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics;

use read_model::ReadModel;

pub use edge_report::serve as serve_reports;

/// Viewers of one node.
const MAX_VIEWERS: usize = 32;
/// Batches that wait for a viewer: some seconds of changes.
const QUEUED_BATCHES: usize = 16;

/// Messages that belong together, encoded once for all viewers.
type Batch = Arc<Vec<Utf8Bytes>>;

/// The operations feed of this node. Clones share it.
#[derive(Clone)]
pub struct OpsFeed(Arc<Shared>);

struct Shared {
    nats: Nats,
    history: History,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    subscribers: HashMap<u64, Subscriber>,
    next_id: u64,
    read_model: ReadModel,
    /// The read model holds everything that is stored. Viewers receive nothing before.
    is_complete: bool,
    last_read_at: Option<Timestamp>,
    /// Since when NATS is unreachable.
    away_since: Option<Timestamp>,
    watch: Option<AbortOnDropHandle<()>>,
}

/// The sending end of a [`Subscription`].
struct Subscriber {
    updates: mpsc::Sender<Update>,
    needs_snapshot: Arc<AtomicBool>,
}

enum Update {
    Messages(Batch),
    /// The read model was rebuilt: earlier messages are void.
    Rebuilt,
}

/// A viewer's end of the feed; dropping the last one stops the watch.
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    id: u64,
    updates: mpsc::Receiver<Update>,
    needs_snapshot: Arc<AtomicBool>,
    /// A snapshot that is being encoded.
    encoding: Option<JoinHandle<Vec<Utf8Bytes>>>,
}

impl OpsFeed {
    /// A feed without viewers.
    pub fn new(nats: Nats) -> Self {
        Self(Arc::new(Shared {
            history: History::new(&nats),
            nats,
            state: Mutex::default(),
        }))
    }

    /// Viewers of this node.
    pub fn viewers(&self) -> usize {
        self.0.state().subscribers.len()
    }

    /// Adds a viewer; none if there are too many.
    pub(crate) fn subscribe(&self) -> Option<Subscription> {
        let mut state = self.0.state();
        if state.subscribers.len() >= MAX_VIEWERS {
            return None;
        }
        let (sender, updates) = mpsc::channel(QUEUED_BATCHES);
        let needs_snapshot = Arc::new(AtomicBool::new(state.is_complete));
        let id = state.next_id;
        state.next_id += 1;
        let subscriber = Subscriber {
            updates: sender,
            needs_snapshot: Arc::clone(&needs_snapshot),
        };
        state.subscribers.insert(id, subscriber);
        if state.watch.is_none() {
            let watch = tokio::spawn(watch::run(Arc::clone(&self.0)));
            state.watch = Some(AbortOnDropHandle::new(watch));
        }
        metrics::set_ops_viewers(state.subscribers.len());
        Some(Subscription {
            shared: Arc::clone(&self.0),
            id,
            updates,
            needs_snapshot,
            encoding: None,
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Puts a rebuilt read model in place of the old one.
    fn replace(&self, read_model: ReadModel, now: Timestamp) {
        let mut state = self.state();
        // If the last viewer has just left, the watch is about to be aborted.
        if state.subscribers.is_empty() {
            return;
        }
        state.read_model = read_model;
        (state.is_complete, state.away_since, state.last_read_at) = (true, None, Some(now));
        state.broadcast(|| Update::Rebuilt);
    }

    /// Changes the read model.
    fn change<T>(&self, change: impl FnOnce(&mut ReadModel) -> T) -> T {
        change(&mut self.state().read_model)
    }

    /// Sends all viewers what has changed.
    fn publish(&self, now: Timestamp) {
        let mut state = self.state();
        state.last_read_at = Some(now);
        let changes = state.read_model.take_changes(now);
        if !changes.is_empty() {
            let batch = Arc::new(message::changes(&changes, now));
            state.broadcast(|| Update::Messages(Arc::clone(&batch)));
        }
    }

    /// NATS is unreachable until [`Shared::replace`].
    fn away(&self, now: Timestamp) {
        let mut state = self.state();
        if state.away_since.is_none() {
            let since = state.last_read_at.unwrap_or(now);
            state.away_since = Some(since);
            let batch = Arc::new(vec![message::away(since, now)]);
            state.broadcast(|| Update::Messages(Arc::clone(&batch)));
        }
    }
}

impl State {
    fn broadcast(&self, update: impl Fn() -> Update) {
        for subscriber in self.subscribers.values() {
            // A viewer that needs a snapshot receives everything with it.
            if !subscriber.needs_snapshot.load(Ordering::Relaxed) && subscriber.updates.try_send(update()).is_err() {
                metrics::ops_viewer_behind();
                subscriber.needs_snapshot.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Subscription {
    /// The next messages for the viewer. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Batch {
        loop {
            if self.encoding.is_none() && self.needs_snapshot.load(Ordering::Relaxed) {
                self.begin_snapshot();
            }
            if let Some(encoding) = &mut self.encoding {
                let snapshot = encoding.await;
                self.encoding = None;
                // A panic is a bug, and was logged by the hook.
                return Arc::new(snapshot.unwrap_or_default());
            }
            match self.updates.recv().await {
                Some(Update::Messages(_) | Update::Rebuilt) if self.needs_snapshot.load(Ordering::Relaxed) => {}
                Some(Update::Messages(batch)) => return batch,
                Some(Update::Rebuilt) => self.needs_snapshot.store(true, Ordering::Relaxed),
                // Unreachable: the state holds the sender until this subscription is dropped.
                None => std::future::pending().await,
            }
        }
    }

    /// Starts encoding all rows as of now. Queued updates are older, later ones newer.
    fn begin_snapshot(&mut self) {
        let state = self.shared.state();
        while self.updates.try_recv().is_ok() {}
        self.needs_snapshot.store(false, Ordering::Relaxed);
        let (rows, away_since) = (state.read_model.rows(), state.away_since);
        drop(state);
        // Thousands of rows take milliseconds to encode: not on a thread that serves the parties' sockets.
        let encode = move || message::snapshot(&rows, away_since, Timestamp::now());
        self.encoding = Some(tokio::task::spawn_blocking(encode));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.subscribers.remove(&self.id);
        metrics::set_ops_viewers(state.subscribers.len());
        if state.subscribers.is_empty() {
            // Drops, and so aborts, the watch.
            let next_id = state.next_id;
            *state = State {
                next_id,
                ..State::default()
            };
        }
    }
}
