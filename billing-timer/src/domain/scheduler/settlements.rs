//! Settlements of calls that are over.

use contract::Timestamp;
use contract::buckets::billing_index::BillingEntry;
use contract::jetstream::bucket::Revised;

use super::Scheduler;
use super::tracked_calls::Phase;
use crate::domain::step::{Step, step};
use crate::domain::work::{DueSettlement, LastStored, WorkToken};

impl Scheduler {
    /// A call to settle and to remove.
    pub fn next_settlement(&mut self, now: Timestamp) -> Option<DueSettlement> {
        loop {
            let token = self.to_settle.pop_front()?;
            let Some(tracked) = self.calls.of(&token) else { continue };
            let last = tracked.stored.tick.as_ref();
            let (settled, stored) = match &tracked.stored.settled {
                Some(settled) => (settled.as_ref().clone(), true),
                None => match step(&tracked.entry, last, &self.terms, now) {
                    Step::Settle(settled) => (settled, false),
                    _ => {
                        self.reschedule(&token.call, now);
                        continue;
                    }
                },
            };
            return Some(DueSettlement {
                revision: tracked.revision,
                settled,
                stored,
                last_tick: last.map(|last| last.sequence),
                trace: tracked.entry.traceparent,
                token,
            });
        }
    }

    /// More facts are stored than the settlement was made from. `connected_at` is from `rtp_detected`, if it is stored.
    pub fn settlement_outdated(
        &mut self,
        token: &WorkToken,
        connected_at: Option<Timestamp>,
        stored: LastStored,
        now: Timestamp,
    ) {
        let Some(tracked) = self.calls.of(token).filter(|tracked| tracked.phase == Phase::Settling) else {
            return;
        };
        tracked.entry.connected_at = connected_at.or(tracked.entry.connected_at);
        tracked.stored = stored;
        self.reschedule(&token.call, now);
    }

    /// The entry could not be removed because it had changed to this.
    pub fn entry_conflicted(&mut self, token: &WorkToken, entry: Revised<BillingEntry>, now: Timestamp) {
        if self.calls.of(token).is_some() {
            self.remove(&token.call);
            self.upsert(&token.call, entry, now);
        }
    }

    /// The settled call's entry was removed at `revision`.
    pub fn entry_removed(&mut self, token: &WorkToken, revision: u64) {
        let Some(tracked) = self.calls.of(token) else { return };
        if tracked.revision == revision {
            self.remove(&token.call);
        } else {
            // A redelivered fact has created the entry again meanwhile.
            tracked.phase = Phase::Reading;
            self.to_read_from_leader.push_back(token.clone());
        }
    }
}
