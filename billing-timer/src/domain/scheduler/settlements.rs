//! Settlements of calls that are over.

use contract::Timestamp;
use contract::buckets::billing_active::BillingEntry;
use contract::jetstream::bucket::Revised;

use super::tracked_calls::Phase;
use super::{Scheduler, token};
use crate::domain::call_facts::CallFacts;
use crate::domain::entry;
use crate::domain::step::{Step, step};
use crate::domain::work::{DueSettlement, WorkToken};

impl Scheduler {
    /// A call to settle and to remove.
    pub fn next_settlement(&mut self, now: Timestamp) -> Option<DueSettlement> {
        loop {
            let key = self.to_settle.pop_front()?;
            let Some(tracked) = self.calls.get_mut(key) else {
                continue;
            };
            let stored = tracked.settled.clone();
            let (entry, last) = (tracked.entry.unpack(), tracked.tick.as_ref());
            if stored.is_none() && step(&entry, last, &self.terms, now) != Step::Settle {
                self.reschedule(key, now);
                continue;
            }
            return Some(DueSettlement {
                token: token(key, tracked),
                entry: Revised {
                    value: entry,
                    revision: tracked.revision,
                },
                stored,
            });
        }
    }

    /// More facts are stored than the call's entry and last tick show.
    pub fn settlement_outdated(&mut self, token: &WorkToken, facts: CallFacts, now: Timestamp) {
        let tracked = self.calls.get_mut(token.key);
        let Some(tracked) = tracked.filter(|tracked| tracked.phase == Phase::Settling) else {
            return;
        };
        tracked.entry.connected_at = facts.connected_at.or(tracked.entry.connected_at);
        tracked.entry.interval_ms = entry::interval_ms(facts.terms.as_ref()).or(tracked.entry.interval_ms);
        (tracked.sequence, tracked.tick, tracked.settled) = (facts.sequence, facts.tick, facts.settled);
        self.reschedule(token.key, now);
    }

    /// The entry could not be removed because it had changed to this.
    pub fn entry_conflicted(&mut self, token: &WorkToken, entry: Revised<BillingEntry>, now: Timestamp) {
        if self.take(token.key).is_some() {
            self.upsert(&token.call, entry, now);
        }
    }

    /// The settled call's entry was removed at `revision`.
    pub fn entry_removed(&mut self, token: &WorkToken, revision: u64) {
        let Some(tracked) = self.calls.get_mut(token.key) else {
            return;
        };
        if tracked.revision == revision {
            self.take(token.key);
        } else {
            // A redelivered fact has created the entry again meanwhile.
            tracked.phase = Phase::Reading;
            self.to_read_from_leader.push_back(token.key);
        }
    }
}
