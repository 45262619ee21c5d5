//! Batches of due ticks.

use contract::Timestamp;
use contract::jetstream::fact_store::PublishCondition;

use super::{Phase, Scheduler};
use crate::domain::last_tick::LastTick;
use crate::domain::step::{Step, step};
use crate::domain::work::{DueTick, TickFailure, WorkToken};

/// After each rejection a call's ticks go in batches smaller by this factor, so that a call that is always rejected is soon
/// alone in its batch.
const ISOLATION_FACTOR: usize = 8;
/// After this many rejections a call is alone in its batch, and a rejection concerns no other call.
const ALONE_AFTER: u32 = 3;
/// From then on the next read is delayed, first by this time and twice as long after each further rejection …
const RETRY_DELAY_MIN_MS: u64 = 25;
/// … up to this time. The read before each attempt fetches what the rejected tick conflicted with, so attempts differ.
const RETRY_DELAY_MAX_MS: u64 = 250;

impl Scheduler {
    /// Due ticks, at most one per call. Ticks of calls whose last batch was rejected are not included.
    pub fn next_batch(&mut self, now: Timestamp) -> Vec<DueTick> {
        let mut batch = Vec::new();
        while batch.len() < self.max_batch {
            let Some(token) = self.due.pop_front() else { break };
            batch.extend(self.take_due(token, now));
        }
        batch
    }

    /// Due ticks of calls whose last batch was rejected, at most one per call.
    pub fn next_retry_batch(&mut self, now: Timestamp) -> Vec<DueTick> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            let Some(first) = self.retry_individually.pop_front() else {
                break;
            };
            let rejections = self.tracked(&first).map_or(0, |tracked| tracked.rejections);
            let size = self.max_batch / ISOLATION_FACTOR.saturating_pow(rejections);
            batch.extend(self.take_due(first, now));
            while batch.len() < size {
                let Some(token) = self.retry_individually.pop_front() else {
                    break;
                };
                batch.extend(self.take_due(token, now));
            }
        }
        batch
    }

    fn take_due(&mut self, token: WorkToken, now: Timestamp) -> Option<DueTick> {
        let terms = self.terms;
        let tracked = self.tracked(&token).filter(|tracked| tracked.phase == Phase::Due)?;
        // The entry may have changed since the tick became due: the call may have ended.
        let Step::Tick(tick) = step(&tracked.entry, tracked.stored.tick.as_ref(), &terms, now) else {
            self.reschedule(&token.call, now);
            return None;
        };
        tracked.phase = Phase::Publishing;
        tracked.sent = Some(tick.clone());
        // The condition covers all facts, not only ticks: a late tick of an instance that lost the lease must not follow the
        // settlement.
        let condition = PublishCondition::CallUnchangedSince(tracked.stored.sequence);
        let trace = tracked.entry.traceparent;
        Some(DueTick {
            token,
            tick,
            condition,
            trace,
        })
    }

    /// A tick is stored with this sequence.
    pub fn tick_stored(&mut self, token: &WorkToken, sequence: u64, now: Timestamp) {
        let Some(tracked) = self.tracked(token).filter(|tracked| tracked.phase == Phase::Publishing) else {
            return;
        };
        tracked.rejections = 0;
        if let Some(tick) = tracked.sent.take() {
            tracked.stored.tick = Some(LastTick { tick, sequence });
            tracked.stored.sequence = sequence;
        }
        self.reschedule(&token.call, now);
    }

    /// A tick is not known to be stored: the last stored messages are read again, after a delay if the call was rejected
    /// alone several times.
    pub fn tick_failed(&mut self, token: &WorkToken, why: TickFailure, now: Timestamp) {
        let Some(tracked) = self.tracked(token).filter(|tracked| tracked.phase == Phase::Publishing) else {
            return;
        };
        tracked.rejections = match why {
            TickFailure::Rejected => tracked.rejections.saturating_add(1),
            TickFailure::Unacknowledged => tracked.rejections,
        };
        tracked.phase = Phase::Reading;
        match retry_delay_ms(tracked.rejections) {
            0 => self.to_read_from_leader.push_back(token.clone()),
            delay => self.timers.set(token.call.clone(), now.plus_millis(delay)),
        }
    }
}

fn retry_delay_ms(rejections: u32) -> u64 {
    match rejections.checked_sub(ALONE_AFTER + 1) {
        None => 0,
        Some(earlier) => (RETRY_DELAY_MIN_MS << earlier.min(16)).min(RETRY_DELAY_MAX_MS),
    }
}
