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
use contract::jetstream::bucket::Revised;
use contract::{CallId, Timestamp};

use super::partition::PartitionSet;
use super::step::{Step, deadline, step};
use super::terms::DefaultTerms;
use super::timer_queue::TimerQueue;
use super::work::{CallKey, WorkToken};
use deadlines::{DEADLINE_HORIZON_MS, Deadlines};
use packed_entry::PackedEntry;
use read_queue::ReadQueue;
use tracked_calls::{Phase, TrackedCall, TrackedCalls};

/// All calls of the held partitions. Bounded by the bucket, and so by the fleet's capacity.
#[derive(Debug)]
pub struct Scheduler {
    terms: DefaultTerms,
    max_batch: usize,
    calls: TrackedCalls,
    /// Of [`TrackedCall::timer`].
    timers: TimerQueue<CallKey>,
    /// Of [`TrackedCall::deadline`].
    deadlines: Deadlines,
    to_read: ReadQueue,
    /// Calls to read from the leader: a replica that lags may not have what a failed tick conflicted with.
    to_read_from_leader: VecDeque<CallKey>,
    due: VecDeque<CallKey>,
    /// Calls whose batch was rejected. They are retried apart from the others, in ever smaller batches.
    retry_individually: VecDeque<CallKey>,
    to_settle: VecDeque<CallKey>,
}

impl Scheduler {
    /// An empty scheduler; `max_batch` is the most ticks in one batch.
    pub fn new(terms: DefaultTerms, max_batch: usize) -> Self {
        Self {
            terms,
            max_batch,
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
        let key = match self.calls.key(call) {
            Some(key) => {
                self.update(key, entry, revision, now);
                key
            }
            None => {
                let connected_at = entry.started_at.or(entry.connected_at);
                let key = self.calls.insert(PackedEntry::pack(entry), revision);
                self.to_read.push(connected_at, key);
                key
            }
        };
        let Some(tracked) = self.calls.get_mut(key) else {
            return;
        };
        let deadline = deadline.filter(|_| tracked.entry.end.is_none());
        let reads_done = now.plus_millis(DEADLINE_HORIZON_MS);
        self.deadlines.watch(tracked, key, deadline, Some(reads_done));
    }

    fn update(&mut self, key: CallKey, entry: BillingEntry, revision: u64, now: Timestamp) {
        let Some(tracked) = self.calls.get_mut(key) else {
            return;
        };
        // A read may have found the end in the stream before.
        let end = tracked.entry.end.take();
        tracked.entry = PackedEntry::pack(entry);
        tracked.entry.end = tracked.entry.end.take().or(end);
        tracked.revision = revision;
        if tracked.phase == Phase::Waiting {
            self.reschedule(key, now);
        }
    }

    /// The call's entry was removed.
    pub fn remove(&mut self, call: &CallId) {
        if let Some(key) = self.calls.key(call) {
            self.take(key);
        }
    }

    fn take(&mut self, key: CallKey) -> Option<TrackedCall> {
        let mut tracked = self.calls.remove(key)?;
        self.timers.cancel(&mut tracked.timer, key);
        self.deadlines.cancel(&mut tracked.deadline, key);
        Some(tracked)
    }

    /// Stops to bill the calls of these partitions, and returns their entries. Results of work in flight will be ignored.
    pub fn release(&mut self, partitions: PartitionSet) -> Vec<Revised<BillingEntry>> {
        let keys = self.calls.of_partitions(partitions).into_iter();
        let released = keys.filter_map(|key| {
            let tracked = self.take(key)?;
            Some(Revised {
                value: tracked.entry.unpack(),
                revision: tracked.revision,
            })
        });
        released.collect()
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
        while let Some(key) = self.timers.pop(now) {
            let Some(tracked) = self.calls.get_mut(key) else {
                continue;
            };
            tracked.timer = None;
            if tracked.phase == Phase::Reading {
                self.to_read_from_leader.push_back(key);
            } else {
                self.reschedule(key, now);
            }
        }
    }

    fn reschedule(&mut self, key: CallKey, now: Timestamp) {
        let Some(tracked) = self.calls.get_mut(key) else {
            return;
        };
        let entry = tracked.entry.unpack();
        let next = match &tracked.settled {
            Some(_) => Step::Settle,
            None => step(&entry, tracked.tick.as_ref(), &self.terms, now),
        };
        let next_look = match &next {
            Step::Wait(at) => Some(*at),
            Step::Tick(_) | Step::Settle => Some(now),
            Step::Idle => None,
        };
        self.timers.cancel(&mut tracked.timer, key);
        tracked.phase = match next {
            Step::Tick(_) if tracked.rejections == 0 => {
                self.due.push_back(key);
                Phase::Due
            }
            Step::Tick(_) => {
                self.retry_individually.push_back(key);
                Phase::Due
            }
            Step::Wait(at) => {
                self.timers.set(&mut tracked.timer, key, at);
                Phase::Waiting
            }
            Step::Settle => {
                self.to_settle.push_back(key);
                Phase::Settling
            }
            Step::Idle => Phase::Waiting,
        };
        let deadline = deadline(&entry, &self.terms);
        self.deadlines.watch(tracked, key, deadline, next_look);
    }
}

/// A piece of work for a call.
fn token(key: CallKey, tracked: &TrackedCall) -> WorkToken {
    WorkToken {
        call: tracked.entry.call_id(),
        key,
    }
}
