//! A local copy of `billing_active` by partition. The entries of held partitions are in the scheduler, all others are here.
//!
//! Every instance keeps all entries, so that it can take over a partition without reading the bucket.

use std::collections::BTreeMap;

use contract::buckets::billing_active::BillingEntry;
use contract::buckets::billing_leases::Partition;
use contract::jetstream::bucket::Revised;
use contract::{CallId, Timestamp};

use super::partition::PartitionSet;
use super::scheduler::Scheduler;

/// Ordered, so that the same changes always result in the same order of work.
type Entries = BTreeMap<CallId, Revised<BillingEntry>>;

/// The entries of all partitions that are not held. Bounded by the bucket.
#[derive(Debug, Default)]
pub struct PartitionedIndex {
    held: PartitionSet,
    entries: BTreeMap<Partition, Entries>,
}

impl PartitionedIndex {
    /// The partitions whose calls are scheduled here.
    pub fn held(&self) -> PartitionSet {
        self.held
    }

    /// The number of entries that are not in the scheduler.
    pub fn len(&self) -> usize {
        self.entries.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A call's entry was created or changed.
    pub fn upsert(&mut self, scheduler: &mut Scheduler, call: CallId, entry: Revised<BillingEntry>, now: Timestamp) {
        let partition = Partition::of(&call);
        if self.held.contains(partition) {
            scheduler.upsert(&call, entry, now);
        } else {
            self.entries.entry(partition).or_default().insert(call, entry);
        }
    }

    /// A call's entry was removed.
    pub fn remove(&mut self, scheduler: &mut Scheduler, call: &CallId) {
        scheduler.remove(call);
        if let Some(entries) = self.entries.get_mut(&Partition::of(call)) {
            entries.remove(call);
        }
    }

    /// Drops all entries: the bucket will be read from its beginning.
    pub fn clear(&mut self, scheduler: &mut Scheduler) {
        scheduler.clear();
        self.entries.clear();
    }

    /// Schedules the calls of exactly these partitions. Results of work in flight for other partitions will be ignored.
    pub fn hold(&mut self, scheduler: &mut Scheduler, partitions: PartitionSet, now: Timestamp) {
        let (gained, lost) = (partitions.without(self.held), self.held.without(partitions));
        self.held = partitions;
        for entry in scheduler.release(lost) {
            let call = entry.value.parties.call_id.clone();
            let entries = self.entries.entry(Partition::of(&call)).or_default();
            entries.insert(call, entry);
        }
        for (call, entry) in gained
            .iter()
            .filter_map(|gained| self.entries.remove(&gained))
            .flatten()
        {
            scheduler.upsert(&call, entry, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::terms::{Charge, DefaultTerms};
    use crate::testing::{at, entry};

    fn call(name: &str) -> (CallId, Revised<BillingEntry>) {
        let entry = Revised {
            value: entry(name, Some(0), None),
            revision: 1,
        };
        (name.parse().unwrap(), entry)
    }

    #[test]
    fn calls_of_held_partitions_are_scheduled() {
        let terms = DefaultTerms {
            interval_ms: 60_000,
            charge: Charge::Full,
            max_call_duration_ms: None,
        };
        let (mut index, mut scheduler) = (PartitionedIndex::default(), Scheduler::new(terms, 10));
        let ((a, a_entry), (b, b_entry)) = (call("A"), call("-_"));
        let [of_a, of_b]: [PartitionSet; 2] = [&a, &b].map(|call| [Partition::of(call)].into_iter().collect());
        index.upsert(&mut scheduler, a.clone(), a_entry, at(0));
        index.upsert(&mut scheduler, b.clone(), b_entry.clone(), at(0));
        assert_eq!((scheduler.len(), index.len()), (0, 2));

        index.hold(&mut scheduler, of_a, at(0));
        assert_eq!(scheduler.next_read().map(|token| token.call), Some(a.clone()));
        assert_eq!((scheduler.len(), index.len()), (1, 1));
        index.hold(&mut scheduler, of_b, at(0));
        assert_eq!(scheduler.next_read().map(|token| token.call), Some(b.clone()));
        assert_eq!((scheduler.len(), index.len()), (1, 1));

        index.remove(&mut scheduler, &b);
        index.remove(&mut scheduler, &a);
        assert_eq!((scheduler.len(), index.len()), (0, 0));
        index.upsert(&mut scheduler, b, b_entry, at(0));
        assert_eq!(scheduler.len(), 1);
        index.clear(&mut scheduler);
        assert!(index.is_empty() && scheduler.is_empty());
        assert_eq!(index.held(), of_b);
    }
}
