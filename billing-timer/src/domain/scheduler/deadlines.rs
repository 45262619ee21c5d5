//! Calls that have reached their maximum duration.

use contract::Timestamp;

use super::tracked_calls::TrackedCall;
use super::{Scheduler, token};
use crate::domain::timer_queue::{Timer, TimerQueue};
use crate::domain::work::{CallKey, WorkToken};

/// How long a new call may wait to be read before it is looked at.
pub(super) const DEADLINE_HORIZON_MS: u64 = 60_000;

/// Delay before the second request to end a call; it doubles after each request …
const TERMINATION_RETRY_MIN_MS: u64 = 1_000;
/// … up to this time.
const TERMINATION_RETRY_MAX_MS: u64 = 60_000;

/// The deadlines that are near. Those of all calls, hours ahead, would take 50 bytes a call.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Of [`TrackedCall::deadline`].
    queue: TimerQueue<CallKey>,
}

impl Deadlines {
    /// Adds the deadline of a call if it comes before `next_look`, when the call is looked at again, or never if that is `None`.
    pub(super) fn watch(
        &mut self,
        tracked: &mut TrackedCall,
        key: CallKey,
        deadline: Option<Timestamp>,
        next_look: Option<Timestamp>,
    ) {
        match deadline {
            None => self.queue.cancel(&mut tracked.deadline, key),
            // A call whose end was already requested keeps its retry time.
            Some(_) if tracked.terminating || tracked.deadline.is_some() => {}
            Some(deadline) if next_look.is_some_and(|next_look| next_look < deadline) => {}
            Some(deadline) => self.queue.set(&mut tracked.deadline, key, deadline),
        }
    }

    pub(super) fn cancel(&mut self, timer: &mut Timer, key: CallKey) {
        self.queue.cancel(timer, key);
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.queue.next()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}

impl Scheduler {
    /// A call whose end is to be requested.
    pub fn next_termination(&mut self, now: Timestamp) -> Option<WorkToken> {
        loop {
            let key = self.deadlines.queue.pop(now)?;
            if let Some(tracked) = self.calls.get_mut(key) {
                tracked.deadline = None;
                tracked.terminating = true;
                return Some(token(key, tracked));
            }
        }
    }

    /// The end of a call was requested. If the call continues, the request is repeated at growing intervals.
    pub fn termination_requested(&mut self, token: &WorkToken, now: Timestamp) {
        let Some(tracked) = self.calls.get_mut(token.key) else {
            return;
        };
        tracked.terminating = false;
        if tracked.entry.end.is_some() {
            return;
        }
        let delay = TERMINATION_RETRY_MIN_MS
            .saturating_mul(1 << tracked.termination_requests.min(16))
            .min(TERMINATION_RETRY_MAX_MS);
        tracked.termination_requests = tracked.termination_requests.saturating_add(1);
        self.deadlines
            .queue
            .set(&mut tracked.deadline, token.key, now.plus_millis(delay));
    }
}
