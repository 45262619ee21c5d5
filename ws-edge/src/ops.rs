//! What operators watch: every live call and the fleet, live, on `/ops/live`.
//!
//! One model a node, and only while somebody watches: nobody there, nothing asked of NATS. [`watch`] asks for what is stored
//! and what workers and edges say of themselves, [`model`] puts it together, [`session`] serves a viewer. Nothing here
//! changes anything, and no viewer can slow another: who does not keep up is given the whole anew instead of a longer queue.

mod edges;
mod item;
mod model;
mod packing;
mod reports;
pub mod session;
mod timeline;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::views::history::History;
use contract::{Nats, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::task::AbortOnDropHandle;

use model::Model;

pub use edges::serve as serve_reports;

/// Viewers of one node.
const MOST_VIEWERS: usize = 32;
/// Batches of news that wait for a viewer: some seconds of them.
const QUEUED_BATCHES: usize = 16;

/// Messages that belong together, written once for all viewers.
type Batch = Arc<Vec<Utf8Bytes>>;

/// The watching of this node. Clones share it.
#[derive(Clone)]
pub struct Ops(Arc<Shared>);

struct Shared {
    nats: Nats,
    history: History,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    viewers: HashMap<u64, Viewer>,
    next_seat: u64,
    model: Model,
    /// The model is whole. Until then nobody is shown it.
    whole: bool,
    /// When something could be learnt last.
    looked_at: Option<Timestamp>,
    /// Since when nothing new could be learnt.
    away_since: Option<Timestamp>,
    watching: Option<AbortOnDropHandle<()>>,
}

struct Viewer {
    news: mpsc::Sender<News>,
    behind: Arc<AtomicBool>,
}

enum News {
    Messages(Batch),
    /// What was told before is void.
    Anew,
}

/// A viewer's place; dropping the last one ends the watching.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    number: u64,
    news: mpsc::Receiver<News>,
    behind: Arc<AtomicBool>,
    /// A snapshot that is being written down.
    encoding: Option<JoinHandle<Vec<Utf8Bytes>>>,
}

impl Ops {
    /// Nothing is watched yet.
    pub fn new(nats: Nats) -> Self {
        Self(Arc::new(Shared {
            history: History::new(&nats),
            nats,
            state: Mutex::default(),
        }))
    }

    /// How many are watching here.
    pub fn viewers(&self) -> usize {
        self.0.state().viewers.len()
    }

    /// A place for one more; none if there is no room.
    pub(crate) fn join(&self) -> Option<Seat> {
        let mut state = self.0.state();
        if state.viewers.len() >= MOST_VIEWERS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUED_BATCHES);
        let behind = Arc::<AtomicBool>::default();
        if state.whole {
            behind.store(true, Ordering::Relaxed);
        }
        let number = state.next_seat;
        state.next_seat += 1;
        let viewer = Viewer {
            news: sender,
            behind: Arc::clone(&behind),
        };
        state.viewers.insert(number, viewer);
        if state.watching.is_none() {
            let watching = tokio::spawn(watch::run(Arc::clone(&self.0)));
            state.watching = Some(AbortOnDropHandle::new(watching));
        }
        metrics::gauge!("callpulse_ops_viewers").set(state.viewers.len() as f64);
        Some(Seat {
            shared: Arc::clone(&self.0),
            number,
            news: receiver,
            behind,
            encoding: None,
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done under this lock, so a poisoned one is as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model was made anew.
    fn replace(&self, model: Model, now: Timestamp) {
        let mut state = self.state();
        // The last viewer may have gone just now, and the watching is about to end.
        if state.viewers.is_empty() {
            return;
        }
        state.model = model;
        (state.whole, state.away_since, state.looked_at) = (true, None, Some(now));
        state.tell_all(|| News::Anew);
    }

    /// Changes the model.
    fn change<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        change(&mut self.state().model)
    }

    /// Tells all viewers what has changed.
    fn publish(&self, now: Timestamp) {
        let mut state = self.state();
        state.looked_at = Some(now);
        let changes = state.model.take_changes(now);
        if !changes.is_empty() {
            let batch = Arc::new(packing::changes(&changes, now));
            state.tell_all(|| News::Messages(Arc::clone(&batch)));
        }
    }

    /// Nothing new can be learnt until [`Shared::replace`].
    fn away(&self, now: Timestamp) {
        let mut state = self.state();
        if state.away_since.is_none() {
            let since = state.looked_at.unwrap_or(now);
            state.away_since = Some(since);
            let batch = Arc::new(vec![packing::away(since, now)]);
            state.tell_all(|| News::Messages(Arc::clone(&batch)));
        }
    }
}

impl State {
    fn tell_all(&self, news: impl Fn() -> News) {
        for viewer in self.viewers.values() {
            // Whoever is behind is given everything anyway.
            if !viewer.behind.load(Ordering::Relaxed) && viewer.news.try_send(news()).is_err() {
                metrics::counter!("callpulse_ops_viewers_behind_total").increment(1);
                viewer.behind.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Seat {
    /// What the viewer is to be told next. Nothing is lost when it is not waited for to the end.
    pub(crate) async fn next(&mut self) -> Batch {
        loop {
            if self.encoding.is_none() && self.behind.load(Ordering::Relaxed) {
                self.begin_snapshot();
            }
            if let Some(encoding) = &mut self.encoding {
                let snapshot = encoding.await;
                self.encoding = None;
                // A panic is a bug, and was logged by the hook.
                return Arc::new(snapshot.unwrap_or_default());
            }
            match self.news.recv().await {
                Some(News::Messages(_) | News::Anew) if self.behind.load(Ordering::Relaxed) => {}
                Some(News::Messages(batch)) => return batch,
                Some(News::Anew) => self.behind.store(true, Ordering::Relaxed),
                // The seat itself keeps the sender in the state.
                None => std::future::pending().await,
            }
        }
    }

    /// Everything, as it is at this moment; what is queued is older, and what comes is newer.
    fn begin_snapshot(&mut self) {
        let state = self.shared.state();
        while self.news.try_recv().is_ok() {}
        self.behind.store(false, Ordering::Relaxed);
        let (items, away_since) = (state.model.all(), state.away_since);
        drop(state);
        // Thousands of calls take milliseconds to write down, and parties shall not wait for it.
        let encode = move || packing::snapshot(&items, away_since, Timestamp::now());
        self.encoding = Some(tokio::task::spawn_blocking(encode));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.viewers.remove(&self.number);
        metrics::gauge!("callpulse_ops_viewers").set(state.viewers.len() as f64);
        if state.viewers.is_empty() {
            // Ends the watching, too.
            let next_seat = state.next_seat;
            *state = State {
                next_seat,
                ..State::default()
            };
        }
    }
}
