//! Sets of partitions, and the partitions that an instance holds.

use std::time::Instant;

use contract::buckets::billing_leases::{PARTITIONS, Partition};

const _: () = assert!(PARTITIONS as u32 <= u64::BITS, "a partition is a bit");

/// A set of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionSet(u64);

impl PartitionSet {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set with `partition`.
    #[must_use]
    pub fn with(self, partition: Partition) -> Self {
        Self(self.0 | bit(partition))
    }

    /// The set without `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether the set contains `partition`.
    pub fn contains(self, partition: Partition) -> bool {
        self.0 & bit(partition) != 0
    }

    /// The number of partitions.
    pub fn len(self) -> usize {
        usize::try_from(self.0.count_ones()).unwrap_or_default()
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// The partitions in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Partition> {
        Partition::all().filter(move |partition| self.contains(*partition))
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        partitions.into_iter().fold(Self::NONE, Self::with)
    }
}

fn bit(partition: Partition) -> u64 {
    1 << partition.number()
}

/// The partitions of this instance and their expiry. After the expiry other instances may tick them, so this instance must
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldPartitions {
    /// The partitions.
    pub partitions: PartitionSet,
    /// The expiry by the monotonic clock. Without one, nothing is held.
    pub until: Option<Instant>,
}

impl HeldPartitions {
    /// The partitions held at `now`.
    pub fn at(self, now: Instant) -> PartitionSet {
        match self.until {
            Some(until) if now < until => self.partitions,
            _ => PartitionSet::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn set(numbers: &[u8]) -> PartitionSet {
        numbers
            .iter()
            .filter_map(|number| Partition::numbered(*number))
            .collect()
    }

    #[test]
    fn a_set_holds_the_first_and_the_last_partition() {
        let some = set(&[0, 5, 63]);
        let numbers: Vec<u8> = some.iter().map(Partition::number).collect();
        assert_eq!((numbers, some.len()), (vec![0, 5, 63], 3));
        assert_eq!(some.without(set(&[5, 6])), set(&[0, 63]));
        assert_eq!(Partition::all().collect::<PartitionSet>().len(), 64);
        assert!(PartitionSet::NONE.is_empty() && !some.is_empty());
    }

    #[test]
    fn nothing_is_held_after_the_expiry() {
        let now = Instant::now();
        let all = HeldPartitions {
            partitions: Partition::all().collect(),
            until: Some(now + Duration::from_secs(4)),
        };
        assert_eq!(all.at(now + Duration::from_millis(3_999)).len(), 64);
        assert_eq!(all.at(now + Duration::from_secs(4)), PartitionSet::NONE);
        assert_eq!(HeldPartitions { until: None, ..all }.at(now), PartitionSet::NONE);
    }
}
