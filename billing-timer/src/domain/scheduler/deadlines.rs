//! Calls that have reached their maximum duration.

use contract::Timestamp;

use super::Scheduler;
use crate::domain::work::WorkToken;

/// Delay before the second request to end a call; it doubles after each request …
const TERMINATION_RETRY_MIN_MS: u64 = 1_000;
/// … up to this time.
const TERMINATION_RETRY_MAX_MS: u64 = 60_000;

impl Scheduler {
    /// A call whose end is to be requested.
    pub fn next_termination(&mut self, now: Timestamp) -> Option<WorkToken> {
        loop {
            let call = self.deadlines.pop(now)?;
            if let Some(tracked) = self.calls.get_mut(&call) {
                tracked.deadline = None;
                tracked.terminating = true;
                return Some(WorkToken {
                    generation: tracked.generation,
                    call,
                });
            }
        }
    }

    /// The end of a call was requested. If the call continues, the request is repeated at growing intervals.
    pub fn termination_requested(&mut self, token: &WorkToken, now: Timestamp) {
        let Some(tracked) = self.calls.of(token) else { return };
        tracked.terminating = false;
        if tracked.entry.end.is_some() {
            return;
        }
        let delay = TERMINATION_RETRY_MIN_MS
            .saturating_mul(1 << tracked.termination_requests.min(16))
            .min(TERMINATION_RETRY_MAX_MS);
        tracked.termination_requests = tracked.termination_requests.saturating_add(1);
        self.deadlines
            .set(&mut tracked.deadline, &token.call, now.plus_millis(delay));
    }
}
