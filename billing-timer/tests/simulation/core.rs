//! What everything in a run shares: the time, what will happen at which moment, the dice, the server, the instances' sites.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use contract::Timestamp;

use crate::dice::{Dice, mix};
use crate::plan::Plan;
use crate::server::Server;
use crate::site::Site;

/// Where a run begins by the wall clock, in milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// A run's state. One thread, so the lock is never waited for.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Core>>);

impl Shared {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Mutex::new(core)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap()
    }
}

pub(crate) enum Event {
    Wake(Waker),
    Run(Box<dyn FnOnce(&mut Core) + Send>),
}

/// An event's key: to take it back.
pub(crate) type Ticket = (u64, u64);

pub(crate) struct Core {
    /// Since the run's beginning, in microseconds: the true time.
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) plan: Plan,
    pub(crate) server: Server,
    pub(crate) sites: Vec<Site>,
    /// What the executor is to do before it goes on.
    pub(crate) orders: Vec<Order>,
    /// What must not be, and was seen.
    pub(crate) violations: Vec<String>,
    events: BTreeMap<Ticket, Event>,
    ties: u64,
    hash: u64,
    /// A line for each thing that happens, if somebody wants to read them.
    lines: Option<Vec<String>>,
}

/// What only the executor can do to an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Start(usize),
    /// After so many polls more: at any await.
    CrashAfter(usize, u64),
    /// SIGTERM.
    Stop(usize),
    /// What was asked to stop and has not ended is ended, as by the drain's deadline.
    Abort(usize, u32),
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(dice: Dice, plan: Plan, server: Server, sites: Vec<Site>, traced: bool) -> Self {
        Self {
            now: 0,
            dice,
            plan,
            server,
            sites,
            orders: Vec::new(),
            violations: Vec::new(),
            events: BTreeMap::new(),
            ties: 0,
            hash: 0,
            lines: traced.then(Vec::new),
        }
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) -> Ticket {
        self.ties += 1;
        let ticket = (at.max(self.now), self.ties);
        self.events.insert(ticket, event);
        ticket
    }

    pub(crate) fn run_at(&mut self, at: u64, run: impl FnOnce(&mut Core) + Send + 'static) -> Ticket {
        self.at(at, Event::Run(Box::new(run)))
    }

    pub(crate) fn run_after(&mut self, after: Duration, run: impl FnOnce(&mut Core) + Send + 'static) -> Ticket {
        self.run_at(self.now + micros(after), run)
    }

    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.events.remove(&ticket);
    }

    /// Goes on to the next event.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// The true time as a wall clock shows it that is right.
    pub(crate) fn true_time(&self) -> Timestamp {
        moment(i64::try_from(self.now / 1_000).unwrap())
    }

    /// Something has happened: into the hash of the run, and into the trace if there is one.
    pub(crate) fn note(&mut self, what: &'static str, number: u64, text: impl FnOnce() -> String) {
        let what_hash = what.bytes().fold(0u64, |hash, byte| mix(hash ^ u64::from(byte)));
        self.hash = mix(self.hash ^ mix(self.now) ^ what_hash.rotate_left(17) ^ mix(number).rotate_left(31));
        if let Some(lines) = &mut self.lines {
            let (seconds, rest) = (self.now / 1_000_000, self.now % 1_000_000);
            lines.push(format!("{seconds:>5}.{rest:06}  {what:<10} {}", text()));
        }
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.note("VIOLATION", 0, || text.clone());
        self.violations.push(text);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// A moment so many milliseconds after the run's beginning.
pub(crate) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(EPOCH_MS + millis).unwrap()
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}
