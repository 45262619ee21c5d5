//! Reads of the last stored messages.

use contract::Timestamp;

use super::tracked_calls::Phase;
use super::{Scheduler, token};
use crate::domain::step;
use crate::domain::work::{LastStored, ReadResult, WorkToken};

impl Scheduler {
    /// Calls whose last stored messages must be read, at most `max`, the most urgent ones first.
    pub fn next_reads(&mut self, max: usize, now: Timestamp) -> Vec<WorkToken> {
        let mut tokens = Vec::new();
        while tokens.len() < max
            && let Some(key) = self.to_read.pop(now)
        {
            tokens.extend(self.calls.get_mut(key).map(|tracked| token(key, tracked)));
        }
        tokens
    }

    /// A call whose last stored messages must be read from the leader.
    pub fn next_leader_read(&mut self) -> Option<WorkToken> {
        loop {
            let key = self.to_read_from_leader.pop_front()?;
            if let Some(tracked) = self.calls.get_mut(key) {
                return Some(token(key, tracked));
            }
        }
    }

    /// Any call to read.
    #[cfg(test)]
    pub(crate) fn next_read(&mut self) -> Option<WorkToken> {
        self.next_leader_read()
            .or_else(|| self.next_reads(1, crate::testing::at(0)).pop())
    }

    /// A read of several calls failed: each is read from the leader.
    pub fn batch_read_failed(&mut self, token: &WorkToken) {
        self.to_read_from_leader.push_back(token.key);
    }

    /// The last stored messages of a call were read.
    pub fn read_done(&mut self, token: &WorkToken, mut stored: LastStored, now: Timestamp) -> ReadResult {
        let tracked = self.calls.get_mut(token.key);
        let Some(tracked) = tracked.filter(|tracked| tracked.phase == Phase::Reading) else {
            return ReadResult::default();
        };
        let last = stored.tick.as_ref();
        let sent = std::mem::take(&mut tracked.sent).into_vec();
        // A batch is stored as a whole: its last tick stands for all.
        let is_stored = last.zip(sent.last()).is_some_and(|(last, sent)| last.is(sent));
        let result = ReadResult {
            confirmed: if is_stored { sent } else { Vec::new() },
            contradiction: step::contradiction(&tracked.entry.unpack(), last, &self.terms),
        };
        // A stored end precedes its entry. No tick beyond it may be published meanwhile.
        tracked.entry.end = tracked.entry.end.take().or(stored.end.take());
        (tracked.sequence, tracked.tick, tracked.settled) = (stored.sequence, stored.tick, stored.settled);
        self.reschedule(token.key, now);
        result
    }

    /// A read failed and is to be repeated at `retry_at`.
    pub fn read_failed(&mut self, token: &WorkToken, retry_at: Timestamp) {
        if let Some(tracked) = self.calls.get_mut(token.key) {
            self.timers.set(&mut tracked.timer, token.key, retry_at);
            let deadline = step::deadline(&tracked.entry.unpack(), &self.terms);
            self.deadlines.watch(tracked, token.key, deadline, Some(retry_at));
        }
    }
}
