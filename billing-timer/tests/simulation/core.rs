//! The shared state of a run: time, scheduled events, random numbers, the server, the hosts. The events act on all of it, so what
//! they act on are its child modules.

pub(crate) mod host;

pub(crate) mod network;

pub(crate) mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use contract::Timestamp;

use self::host::Host;
use self::server::Server;
use crate::plan::Plan;
use crate::rng::{Rng, mix};
use crate::time::{micros, timestamp};

/// The state of a run. A run has one thread, so the lock is never contended.
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

/// The key of a scheduled event, to cancel it.
pub(crate) type EventKey = (u64, u64);

pub(crate) struct Core {
    /// The true time since the start of the run, in microseconds.
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) server: Server,
    pub(crate) hosts: Vec<Host>,
    /// Orders for the executor, carried out before the next poll.
    pub(crate) orders: Vec<Order>,
    /// Violated invariants.
    pub(crate) violations: Vec<String>,
    events: BTreeMap<EventKey, Event>,
    ties: u64,
    hash: u64,
    /// The trace, if requested.
    lines: Option<Vec<String>>,
}

/// An action on an instance that only the executor can perform.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Start(usize),
    /// Drop the instance after this many further polls, at whichever await it has reached.
    CrashAfter(usize, u64),
    /// SIGTERM.
    Stop(usize),
    /// Drop an instance that has not stopped within the drain's deadline.
    Abort(usize, u32),
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(rng: Rng, plan: Plan, server: Server, hosts: Vec<Host>, traced: bool) -> Self {
        Self {
            now: 0,
            rng,
            plan,
            server,
            hosts,
            orders: Vec::new(),
            violations: Vec::new(),
            events: BTreeMap::new(),
            ties: 0,
            hash: 0,
            lines: traced.then(Vec::new),
        }
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) -> EventKey {
        self.ties += 1;
        let key = (at.max(self.now), self.ties);
        self.events.insert(key, event);
        key
    }

    pub(crate) fn run_at(&mut self, at: u64, run: impl FnOnce(&mut Core) + Send + 'static) -> EventKey {
        self.at(at, Event::Run(Box::new(run)))
    }

    pub(crate) fn run_after(&mut self, after: Duration, run: impl FnOnce(&mut Core) + Send + 'static) -> EventKey {
        self.run_at(self.now + micros(after), run)
    }

    pub(crate) fn cancel(&mut self, key: EventKey) {
        self.events.remove(&key);
    }

    /// Advances the time to the next event.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// The true time as an accurate wall clock shows it.
    pub(crate) fn true_time(&self) -> Timestamp {
        timestamp(i64::try_from(self.now / 1_000).unwrap())
    }

    /// Adds an occurrence to the hash of the run, and to the trace if there is one.
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
