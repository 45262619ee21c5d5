//! All entries of the book by partition, and the ledger of those that are ticked here.
//!
//! Every instance knows all entries, so that one that takes over a partition has its calls in hand.

use std::collections::BTreeMap;

use contract::buckets::billing_index::BillingEntry;
use contract::buckets::leases::Partition;
use contract::jetstream::bucket::Revised;
use contract::{CallId, Timestamp};

use super::ledger::Ledger;
use super::partition::Partitions;

/// In order, so that the same news always makes the same work.
type Entries = BTreeMap<CallId, Revised<BillingEntry>>;

/// The entries, and whose calls are in the ledger. Bounded as the book is.
#[derive(Debug, Default)]
pub struct Shelf {
    held: Partitions,
    entries: BTreeMap<Partition, Entries>,
}

impl Shelf {
    /// The partitions whose calls are in the ledger.
    pub fn held(&self) -> Partitions {
        self.held
    }

    /// How many entries there are, of all partitions.
    pub fn len(&self) -> usize {
        self.entries.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A call's entry is on the book as this.
    pub fn open(&mut self, ledger: &mut Ledger, call: CallId, entry: Revised<BillingEntry>, now: Timestamp) {
        let partition = Partition::of(&call);
        if self.held.contains(partition) {
            ledger.open(&call, entry.clone(), now);
        }
        self.entries.entry(partition).or_default().insert(call, entry);
    }

    /// A call is off the book.
    pub fn close(&mut self, ledger: &mut Ledger, call: &CallId) {
        ledger.close(call);
        if let Some(entries) = self.entries.get_mut(&Partition::of(call)) {
            entries.remove(call);
        }
    }

    /// The book will be read from its beginning.
    pub fn forget(&mut self, ledger: &mut Ledger) {
        ledger.forget();
        self.entries.clear();
    }

    /// From now on these are ticked here, and no others. Work that is out for the others goes on, and counts for nothing.
    pub fn hold(&mut self, ledger: &mut Ledger, partitions: Partitions, now: Timestamp) {
        let (gained, lost) = (partitions.without(self.held), self.held.without(partitions));
        self.held = partitions;
        for (call, _) in lost.iter().filter_map(|lost| self.entries.get(&lost)).flatten() {
            ledger.close(call);
        }
        for (call, entry) in gained.iter().filter_map(|gained| self.entries.get(&gained)).flatten() {
            ledger.open(call, entry.clone(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::terms::{Charge, Terms};
    use crate::testing::{at, entry};

    fn call(name: &str) -> (CallId, Revised<BillingEntry>) {
        let entry = Revised {
            value: entry(name, Some(0), None),
            revision: 1,
        };
        (name.parse().unwrap(), entry)
    }

    #[test]
    fn the_ledger_has_the_calls_of_the_partitions_that_are_held() {
        let terms = Terms {
            interval_ms: 60_000,
            charge: Charge::Full,
            max_call_duration_ms: None,
        };
        let (mut shelf, mut ledger) = (Shelf::default(), Ledger::new(terms, 10));
        let ((a, a_entry), (b, b_entry)) = (call("A"), call("-_"));
        let [of_a, of_b]: [Partitions; 2] = [&a, &b].map(|call| [Partition::of(call)].into_iter().collect());
        shelf.open(&mut ledger, a.clone(), a_entry, at(0));
        shelf.open(&mut ledger, b.clone(), b_entry.clone(), at(0));
        assert_eq!((ledger.len(), shelf.len()), (0, 2));

        shelf.hold(&mut ledger, of_a, at(0));
        assert_eq!(ledger.next_read().map(|ticket| ticket.call), Some(a.clone()));
        assert_eq!(ledger.len(), 1);
        shelf.hold(&mut ledger, of_b, at(0));
        assert_eq!(ledger.next_read().map(|ticket| ticket.call), Some(b.clone()));
        assert_eq!(ledger.len(), 1);

        shelf.close(&mut ledger, &b);
        shelf.close(&mut ledger, &a);
        assert_eq!((ledger.len(), shelf.len()), (0, 0));
        shelf.open(&mut ledger, b, b_entry, at(0));
        assert_eq!(ledger.len(), 1);
        shelf.forget(&mut ledger);
        assert!(shelf.is_empty() && ledger.is_empty());
        assert_eq!(shelf.held(), of_b);
    }
}
