//! All calls that this instance bills, and the next work for each of them.
//!
//! The scheduler performs no work itself. It hands out work (read a call's last stored messages, publish a batch of ticks,
//! settle a call, request its end), each piece with a [`WorkToken`], and receives the result. A call has at most one piece of
//! work in flight, so no two batches hold ticks of one call. Results are ignored if the call's entry was removed meanwhile.

mod packed_entry;
mod tracked_calls;

mod read_queue;
mod reads;

mod ticks;

mod settlements;

mod deadlines;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use contract::buckets::billing_active::BillingEntry;
use contract::buckets::billing_leases::Partition;
use contract::jetstream::bucket::Revised;
use contract::{CallId, Timestamp};

use super::step::{Step, deadline, step};
use super::terms::FleetTerms;
use super::timer_queue::TimerQueue;
use super::work::WorkToken;
use deadlines::{DEADLINE_HORIZON_MS, Deadlines};
use packed_entry::PackedEntry;
use read_queue::ReadQueue;
use tracked_calls::{Phase, TrackedCall, TrackedCalls};

/// All calls of the held partitions. Bounded by the bucket, and so by the fleet's capacity.
#[derive(Debug)]
pub struct Scheduler {
    terms: FleetTerms,
    max_batch: usize,
    generations: u64,
    calls: TrackedCalls,
    /// Of [`TrackedCall::timer`].
    timers: TimerQueue<CallId>,
    /// Of [`TrackedCall::deadline`].
    deadlines: Deadlines,
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
    pub fn new(terms: FleetTerms, max_batch: usize) -> Self {
        Self {
            terms,
            max_batch,
            generations: 0,
            calls: TrackedCalls::default(),
            timers: TimerQueue::default(),
            deadlines: Deadlines::default(),
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

    /// The number of calls whose next tick is due and not published yet. A removed call may still be counted.
    pub fn due(&self) -> usize {
        self.due.len() + self.retry_individually.len()
    }

    /// Whether there are no calls.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The call's entry was created or changed.
    pub fn upsert(&mut self, call: &CallId, entry: Revised<BillingEntry>, now: Timestamp) {
        let Revised { value: entry, revision } = entry;
        let deadline = deadline(&entry, &self.terms);
        match self.calls.get_mut(call) {
            Some(tracked) => {
                // A read may have found the end in the stream before.
                let end = tracked.entry.end.take();
                tracked.entry = PackedEntry::pack(entry);
                tracked.entry.end = tracked.entry.end.take().or(end);
                tracked.revision = revision;
                if tracked.phase == Phase::Waiting {
                    self.reschedule(call, now);
                }
            }
            None => self.insert(entry, revision),
        }
        let Some(tracked) = self.calls.get_mut(call) else {
            return;
        };
        let deadline = deadline.filter(|_| tracked.entry.end.is_none());
        let reads_done = now.plus_millis(DEADLINE_HORIZON_MS);
        self.deadlines.watch(tracked, call, deadline, Some(reads_done));
    }

    fn insert(&mut self, entry: BillingEntry, revision: u64) {
        self.generations += 1;
        let call = entry.parties.call_id.clone();
        let token = WorkToken {
            call: call.clone(),
            generation: self.generations,
        };
        self.to_read.push(entry.started_at.or(entry.connected_at), token);
        let tracked = TrackedCall {
            generation: self.generations,
            entry: PackedEntry::pack(entry),
            revision,
            phase: Phase::Reading,
            sequence: 0,
            tick: None,
            settled: None,
            sent: Box::default(),
            rejections: 0,
            termination_requests: 0,
            terminating: false,
            timer: None,
            deadline: None,
        };
        self.calls.insert(call, tracked);
    }

    /// The call's entry was removed.
    pub fn remove(&mut self, call: &CallId) {
        if let Some(mut tracked) = self.calls.remove(call) {
            self.timers.cancel(&mut tracked.timer, call);
            self.deadlines.cancel(&mut tracked.deadline, call);
        }
    }

    /// Stops to bill the calls of a partition, and returns their entries. Results of work in flight will be ignored.
    pub fn release(&mut self, partition: Partition) -> impl Iterator<Item = (CallId, Revised<BillingEntry>)> {
        self.calls.take(partition).into_iter().map(|(call, mut tracked)| {
            self.timers.cancel(&mut tracked.timer, &call);
            self.deadlines.cancel(&mut tracked.deadline, &call);
            let (value, revision) = (tracked.entry.unpack(&call), tracked.revision);
            (call, Revised { value, revision })
        })
    }

    /// Drops all calls: the bucket will be read from its beginning. Results of work in flight will be ignored.
    pub fn clear(&mut self) {
        self.calls = TrackedCalls::default();
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
            let Some(tracked) = self.calls.get_mut(&call) else {
                continue;
            };
            tracked.timer = None;
            if tracked.phase == Phase::Reading {
                let generation = tracked.generation;
                self.to_read_from_leader.push_back(WorkToken { call, generation });
            } else {
                self.reschedule(&call, now);
            }
        }
    }

    fn reschedule(&mut self, call: &CallId, now: Timestamp) {
        let Some(tracked) = self.calls.get_mut(call) else {
            return;
        };
        let token = WorkToken {
            call: call.clone(),
            generation: tracked.generation,
        };
        let entry = tracked.entry.unpack(call);
        let next = match &tracked.settled {
            Some(_) => Step::Settle,
            None => step(&entry, tracked.tick.as_ref(), &self.terms, now),
        };
        let next_look = match &next {
            Step::Wait(at) => Some(*at),
            Step::Tick(_) | Step::Settle => Some(now),
            Step::Idle => None,
        };
        self.timers.cancel(&mut tracked.timer, call);
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
                self.timers.set(&mut tracked.timer, call, at);
                Phase::Waiting
            }
            Step::Settle => {
                self.to_settle.push_back(token);
                Phase::Settling
            }
            Step::Idle => Phase::Waiting,
        };
        let deadline = deadline(&entry, &self.terms);
        self.deadlines.watch(tracked, call, deadline, next_look);
    }
}
