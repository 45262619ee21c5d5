//! Batches of due ticks.

use contract::Timestamp;
use contract::jetstream::fact_store::PublishCondition;

use super::tracked_calls::Phase;
use super::{Scheduler, token};
use crate::domain::last_tick::LastTick;
use crate::domain::step::{due_ticks, on_server};
use crate::domain::work::{CallKey, DueTicks, TickFailure, WorkToken};

/// After each rejection a call's ticks go in batches smaller by this factor, so that a call that is always rejected is soon
/// alone in its batch.
const ISOLATION_FACTOR: usize = 8;
/// After this many rejections a call is alone in its batch, and a rejection concerns no other call.
const ALONE_AFTER: u16 = 3;
/// From then on the next read is delayed, first by this time and twice as long after each further rejection …
const RETRY_DELAY_MIN_MS: u64 = 25;
/// … up to this time. The read before each attempt fetches what the rejected tick conflicted with, so attempts differ.
const RETRY_DELAY_MAX_MS: u64 = 250;

impl Scheduler {
    /// Due ticks, those of a call together. Calls whose last batch was rejected are not included.
    pub fn next_batch(&mut self, now: Timestamp) -> Vec<DueTicks> {
        let mut batch = Batch::new(self.max_batch);
        while batch.room() > 0 {
            let Some(key) = self.due.pop_front() else { break };
            batch.extend(self.take_due(key, now, batch.room()));
        }
        batch.calls
    }

    /// Due ticks of calls whose last batch was rejected, those of a call together.
    pub fn next_retry_batch(&mut self, now: Timestamp) -> Vec<DueTicks> {
        let mut batch = Batch::new(0);
        while batch.calls.is_empty() {
            let Some(first) = self.retry_individually.pop_front() else {
                break;
            };
            let rejections = self
                .calls
                .get_mut(first)
                .map_or(0, |tracked| u32::from(tracked.rejections));
            batch = Batch::new((self.max_batch / ISOLATION_FACTOR.saturating_pow(rejections)).max(1));
            // The ticks of one call are stored or rejected together.
            batch.extend(self.take_due(first, now, self.max_batch));
            while batch.room() > 0 {
                let Some(key) = self.retry_individually.pop_front() else {
                    break;
                };
                batch.extend(self.take_due(key, now, batch.room()));
            }
        }
        batch.calls
    }

    fn take_due(&mut self, key: CallKey, now: Timestamp, max: usize) -> Option<DueTicks> {
        let tracked = self.calls.get_mut(key).filter(|tracked| tracked.phase == Phase::Due)?;
        // The entry may have changed since the tick became due: the call may have ended.
        let entry = tracked.entry.unpack();
        let ticks = due_ticks(&entry, tracked.tick.as_ref(), &self.terms, now, max);
        let Some(first) = ticks.first() else {
            self.reschedule(key, now);
            return None;
        };
        let due_at = on_server(&entry, first.at);
        tracked.phase = Phase::Publishing;
        tracked.sent = ticks.clone().into();
        // The condition covers all facts, not only ticks: a late tick of an instance that lost the lease must not follow the
        // settlement.
        let condition = PublishCondition::CallUnchangedSince(tracked.sequence);
        let trace = tracked.entry.traceparent;
        Some(DueTicks {
            token: token(key, tracked),
            ticks,
            due_at,
            condition,
            trace,
        })
    }

    /// The published ticks of a call are stored, the last one with this sequence.
    pub fn ticks_stored(&mut self, token: &WorkToken, sequence: u64, now: Timestamp) {
        let tracked = self.calls.get_mut(token.key);
        let Some(tracked) = tracked.filter(|tracked| tracked.phase == Phase::Publishing) else {
            return;
        };
        tracked.rejections = 0;
        if let Some(last) = std::mem::take(&mut tracked.sent).last() {
            tracked.tick = Some(LastTick::new(last));
            tracked.sequence = sequence;
        }
        self.reschedule(token.key, now);
    }

    /// The published ticks of a call are not known to be stored: the last stored messages are read again, after a delay if the
    /// call was rejected alone several times.
    pub fn ticks_failed(&mut self, token: &WorkToken, why: TickFailure, now: Timestamp) {
        let tracked = self.calls.get_mut(token.key);
        let Some(tracked) = tracked.filter(|tracked| tracked.phase == Phase::Publishing) else {
            return;
        };
        tracked.rejections = match why {
            TickFailure::Rejected => tracked.rejections.saturating_add(1),
            TickFailure::Unacknowledged => tracked.rejections,
        };
        tracked.phase = Phase::Reading;
        match retry_delay_ms(tracked.rejections) {
            0 => self.to_read_from_leader.push_back(token.key),
            delay => self.timers.set(&mut tracked.timer, token.key, now.plus_millis(delay)),
        }
    }
}

/// The ticks of some calls, up to a number of ticks.
struct Batch {
    calls: Vec<DueTicks>,
    max: usize,
    ticks: usize,
}

impl Batch {
    fn new(max: usize) -> Self {
        Self {
            calls: Vec::new(),
            max,
            ticks: 0,
        }
    }

    fn room(&self) -> usize {
        self.max.saturating_sub(self.ticks)
    }

    fn extend(&mut self, due: Option<DueTicks>) {
        self.ticks += due.as_ref().map_or(0, |due| due.ticks.len());
        self.calls.extend(due);
    }
}

fn retry_delay_ms(rejections: u16) -> u64 {
    match rejections.checked_sub(ALONE_AFTER + 1) {
        None => 0,
        Some(earlier) => (RETRY_DELAY_MIN_MS << earlier.min(16)).min(RETRY_DELAY_MAX_MS),
    }
}
