//! All calls that this instance bills, and the next work for each of them.
//!
//! The scheduler performs no work itself. It hands out work (read a call's last stored messages, publish a batch of ticks,
//! settle a call, request its end), each piece with a [`WorkToken`], and receives the result. A call has at most one piece of
//! work in flight, so a batch never holds two ticks of one call. Results are ignored if the call's entry was removed meanwhile.

mod read_queue;
mod reads;

mod ticks;

mod settlements;

mod deadlines;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use contract::buckets::billing_index::BillingEntry;
use contract::jetstream::bucket::Revised;
use contract::wire::fact::Tick;
use contract::{CallId, Timestamp};

use super::step::{Step, deadline, step};
use super::terms::Terms;
use super::timer_queue::TimerQueue;
use super::work::{LastStored, WorkToken};
use read_queue::ReadQueue;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its last stored messages are being read, or wait to be read.
    Reading,
    /// It waits for its next tick's time, or for a change of its entry.
    Waiting,
    /// Its next tick is due.
    Due,
    /// Its next tick is being published.
    Publishing,
    /// It is being settled, or waits to be settled.
    Settling,
}

#[derive(Debug)]
struct TrackedCall {
    generation: u64,
    entry: BillingEntry,
    revision: u64,
    phase: Phase,
    stored: LastStored,
    sent: Option<Tick>,
    rejections: u32,
    termination_requests: u32,
    terminating: bool,
}

/// All calls of the held partitions. Bounded by the bucket, and so by the fleet's capacity.
#[derive(Debug)]
pub struct Scheduler {
    terms: Terms,
    max_batch: usize,
    generations: u64,
    calls: HashMap<CallId, TrackedCall>,
    /// When a call's next tick is due, or a read is to be repeated.
    timers: TimerQueue<CallId>,
    /// When a call's end is to be requested (again).
    deadlines: TimerQueue<CallId>,
    to_read: ReadQueue,
    /// Calls to read from the leader: a replica that lags may not have what a failed tick conflicted with.
    to_read_from_leader: VecDeque<WorkToken>,
    due: VecDeque<WorkToken>,
    /// Calls whose batch was rejected. They are retried apart from the others, in ever smaller batches.
    retry_individually: VecDeque<WorkToken>,
    to_settle: VecDeque<WorkToken>,
}

impl Scheduler {
    /// An empty scheduler; `max_batch` is the most ticks in one batch.
    pub fn new(terms: Terms, max_batch: usize) -> Self {
        Self {
            terms,
            max_batch,
            generations: 0,
            calls: HashMap::new(),
            timers: TimerQueue::default(),
            deadlines: TimerQueue::default(),
            to_read: ReadQueue::new(terms.interval_ms),
            to_read_from_leader: VecDeque::new(),
            due: VecDeque::new(),
            retry_individually: VecDeque::new(),
            to_settle: VecDeque::new(),
        }
    }

    /// The number of calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are no calls.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The call's entry was created or changed.
    pub fn upsert(&mut self, call: &CallId, entry: Revised<BillingEntry>, now: Timestamp) {
        let Revised { value: entry, revision } = entry;
        let deadline = deadline(&entry, &self.terms);
        let mut terminating = false;
        match self.calls.get_mut(call) {
            Some(tracked) => {
                tracked.entry = entry;
                tracked.revision = revision;
                terminating = tracked.terminating;
                if tracked.phase == Phase::Waiting {
                    self.reschedule(call, now);
                }
            }
            None => self.insert(call, entry, revision),
        }
        match deadline {
            None => self.deadlines.cancel(call),
            // A call whose end was already requested keeps its retry time.
            Some(_) if terminating || self.deadlines.contains(call) => {}
            Some(deadline) => self.deadlines.set(call.clone(), deadline),
        }
    }

    fn insert(&mut self, call: &CallId, entry: BillingEntry, revision: u64) {
        self.generations += 1;
        let generation = self.generations;
        let tracked = TrackedCall {
            generation,
            entry,
            revision,
            phase: Phase::Reading,
            stored: LastStored::default(),
            sent: None,
            rejections: 0,
            termination_requests: 0,
            terminating: false,
        };
        let token = WorkToken {
            call: call.clone(),
            generation,
        };
        self.to_read.push(tracked.entry.connected_at, token);
        self.calls.insert(call.clone(), tracked);
    }

    /// The call's entry was removed.
    pub fn remove(&mut self, call: &CallId) {
        self.calls.remove(call);
        self.timers.cancel(call);
        self.deadlines.cancel(call);
    }

    /// Drops all calls: the bucket will be read from its beginning. Results of work in flight will be ignored.
    pub fn clear(&mut self) {
        self.calls.clear();
        self.timers.clear();
        self.deadlines.clear();
        self.to_read.clear();
        for queue in [
            &mut self.to_read_from_leader,
            &mut self.due,
            &mut self.retry_individually,
            &mut self.to_settle,
        ] {
            queue.clear();
        }
    }

    /// The time of the next timer.
    pub fn next_wake(&self) -> Option<Timestamp> {
        [self.timers.next(), self.deadlines.next()].into_iter().flatten().min()
    }

    /// Handles the timers that are due.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some(call) = self.timers.pop(now) {
            match self.calls.get(&call) {
                Some(tracked) if tracked.phase == Phase::Reading => {
                    let generation = tracked.generation;
                    self.to_read_from_leader.push_back(WorkToken { call, generation });
                }
                _ => self.reschedule(&call, now),
            }
        }
    }

    fn tracked(&mut self, token: &WorkToken) -> Option<&mut TrackedCall> {
        self.calls
            .get_mut(&token.call)
            .filter(|tracked| tracked.generation == token.generation)
    }

    fn reschedule(&mut self, call: &CallId, now: Timestamp) {
        let Some(tracked) = self.calls.get_mut(call) else {
            return;
        };
        let token = WorkToken {
            call: call.clone(),
            generation: tracked.generation,
        };
        let next = match &tracked.stored.settled {
            Some(settled) => Step::Settle(settled.clone()),
            None => step(&tracked.entry, tracked.stored.tick.as_ref(), &self.terms, now),
        };
        self.timers.cancel(call);
        tracked.phase = match next {
            Step::Tick(_) if tracked.rejections == 0 => {
                self.due.push_back(token);
                Phase::Due
            }
            Step::Tick(_) => {
                self.retry_individually.push_back(token);
                Phase::Due
            }
            Step::Wait(at) => {
                self.timers.set(call.clone(), at);
                Phase::Waiting
            }
            Step::Settle(_) => {
                self.to_settle.push_back(token);
                Phase::Settling
            }
            Step::Idle => Phase::Waiting,
        };
    }
}
