//! Ticks that are due, in batches.

use contract::Timestamp;
use contract::jetstream::fact_store::PublishCondition;

use super::{Ledger, Phase};
use crate::domain::chain::LastTick;
use crate::domain::step::{Step, step};
use crate::domain::work::{DueTick, NotWritten, Ticket};

/// A call's ticks go in batches smaller by this factor after each refusal, so that one that is always refused is soon alone.
const ISOLATION_FACTOR: usize = 8;
/// After so many refusals a call's ticks go alone, and what was stored of it meanwhile is no other call's affair.
const ALONE_AFTER: u32 = 3;
/// From then on it waits before it is read again: so long, and twice as long each time …
const SHORTEST_WAIT_MS: u64 = 25;
/// … but no longer than this: what a tick contradicts is read back before the next attempt, so that is another one.
const LONGEST_WAIT_MS: u64 = 250;

impl Ledger {
    /// Ticks that are due, at most one a call; empty if there are none. Those of calls that were refused are apart.
    pub fn next_batch(&mut self, now: Timestamp) -> Vec<DueTick> {
        let mut batch = Vec::new();
        while batch.len() < self.max_batch {
            let Some(ticket) = self.due.pop_front() else { break };
            batch.extend(self.take_due(ticket, now));
        }
        batch
    }

    /// Ticks that are due of calls that were in a refused batch, at most one a call; empty if there are none.
    pub fn next_suspects(&mut self, now: Timestamp) -> Vec<DueTick> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            let Some(first) = self.suspects.pop_front() else { break };
            let refusals = self.account(&first).map_or(0, |account| account.refusals);
            let size = self.max_batch / ISOLATION_FACTOR.saturating_pow(refusals);
            batch.extend(self.take_due(first, now));
            while batch.len() < size {
                let Some(ticket) = self.suspects.pop_front() else { break };
                batch.extend(self.take_due(ticket, now));
            }
        }
        batch
    }

    fn take_due(&mut self, ticket: Ticket, now: Timestamp) -> Option<DueTick> {
        let terms = self.terms;
        let account = self.account(&ticket).filter(|account| account.phase == Phase::Due)?;
        // Asked again: the call may have ended since it became due.
        let Step::Tick(tick) = step(&account.entry, account.position.last.as_ref(), &terms, now) else {
            self.decide(&ticket.call, now);
            return None;
        };
        account.phase = Phase::Writing;
        account.sent = Some(tick.clone());
        // Not only after the last tick: one of an owner that lost the call long ago must not come after its settlement.
        let guard = PublishCondition::CallUnchangedSince(account.position.sequence);
        let trace = account.entry.traceparent;
        Some(DueTick {
            ticket,
            tick,
            guard,
            trace,
        })
    }

    /// A tick is stored under this sequence.
    pub fn written(&mut self, ticket: &Ticket, sequence: u64, now: Timestamp) {
        let Some(account) = self.account(ticket).filter(|account| account.phase == Phase::Writing) else {
            return;
        };
        account.refusals = 0;
        if let Some(tick) = account.sent.take() {
            account.position.last = Some(LastTick { tick, sequence });
            account.position.sequence = sequence;
        }
        self.decide(&ticket.call, now);
    }

    /// A tick is not known to be stored: what is stored will be read back. A call that is refused again and again, alone,
    /// waits for that, and no other call with it.
    pub fn not_written(&mut self, ticket: &Ticket, why: NotWritten, now: Timestamp) {
        let Some(account) = self.account(ticket).filter(|account| account.phase == Phase::Writing) else {
            return;
        };
        account.refusals = match why {
            NotWritten::Refused => account.refusals.saturating_add(1),
            NotWritten::Unanswered => account.refusals,
        };
        account.phase = Phase::Reading;
        match wait_ms(account.refusals) {
            0 => self.to_read.push_back(ticket.clone()),
            wait => self.wakes.set(ticket.call.clone(), now.plus_millis(wait)),
        }
    }
}

fn wait_ms(refusals: u32) -> u64 {
    match refusals.checked_sub(ALONE_AFTER + 1) {
        None => 0,
        Some(earlier) => (SHORTEST_WAIT_MS << earlier.min(16)).min(LONGEST_WAIT_MS),
    }
}
