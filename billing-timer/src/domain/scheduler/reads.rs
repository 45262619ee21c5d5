//! Reads of the last stored messages.

use contract::Timestamp;

use super::{Phase, Scheduler};
use crate::domain::step;
use crate::domain::work::{LastStored, ReadResult, WorkToken};

impl Scheduler {
    /// A call whose last stored messages must be read.
    pub fn next_read(&mut self) -> Option<WorkToken> {
        loop {
            let token = self.to_read.pop_front()?;
            if self.tracked(&token).is_some() {
                return Some(token);
            }
        }
    }

    /// The last stored messages of a call were read.
    pub fn read_done(&mut self, token: &WorkToken, stored: LastStored, now: Timestamp) -> ReadResult {
        let terms = self.terms;
        let Some(tracked) = self.tracked(token).filter(|tracked| tracked.phase == Phase::Reading) else {
            return ReadResult::default();
        };
        let last = stored.tick.as_ref();
        let sent = tracked.sent.take();
        let result = ReadResult {
            confirmed: sent.filter(|sent| last.is_some_and(|last| last.tick == *sent)),
            contradiction: step::contradiction(&tracked.entry, last, &terms),
        };
        tracked.stored = stored;
        self.reschedule(&token.call, now);
        result
    }

    /// A read failed and is to be repeated at `retry_at`.
    pub fn read_failed(&mut self, token: &WorkToken, retry_at: Timestamp) {
        if self.tracked(token).is_some() {
            self.timers.set(token.call.clone(), retry_at);
        }
    }
}
