//! Which calls an instance ticks.

use std::time::Instant;

use contract::buckets::leases::{PARTITIONS, Partition};

const _: () = assert!(PARTITIONS as u32 <= u64::BITS, "a partition is a bit");

/// A set of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Partitions(u64);

impl Partitions {
    /// No calls.
    pub const NONE: Self = Self(0);

    /// With this one as well.
    #[must_use]
    pub fn with(self, partition: Partition) -> Self {
        Self(self.0 | bit(partition))
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether it is one of them.
    pub fn contains(self, partition: Partition) -> bool {
        self.0 & bit(partition) != 0
    }

    /// How many.
    pub fn len(self) -> usize {
        usize::try_from(self.0.count_ones()).unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Partition> {
        Partition::all().filter(move |partition| self.contains(*partition))
    }
}

impl FromIterator<Partition> for Partitions {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        partitions.into_iter().fold(Self::NONE, Self::with)
    }
}

fn bit(partition: Partition) -> u64 {
    1 << partition.number()
}

/// The partitions of this instance, and until when: by then its word of being alive has expired, others may tick them, and
/// it does not if nothing was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Which.
    pub partitions: Partitions,
    /// By the monotonic clock. Nothing is held while there is no such moment.
    pub until: Option<Instant>,
}

impl Holding {
    /// What is held at this moment.
    pub fn at(self, now: Instant) -> Partitions {
        match self.until {
            Some(until) if now < until => self.partitions,
            _ => Partitions::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn set(numbers: &[u8]) -> Partitions {
        numbers
            .iter()
            .filter_map(|number| Partition::numbered(*number))
            .collect()
    }

    #[test]
    fn the_first_and_the_last_are_partitions_as_any_other() {
        let some = set(&[0, 5, 63]);
        let numbers: Vec<u8> = some.iter().map(Partition::number).collect();
        assert_eq!((numbers, some.len()), (vec![0, 5, 63], 3));
        assert_eq!(some.without(set(&[5, 6])), set(&[0, 63]));
        assert_eq!(Partition::all().collect::<Partitions>().len(), 64);
        assert!(Partitions::NONE.is_empty() && !some.is_empty());
    }

    #[test]
    fn nothing_is_held_when_nothing_was_renewed_in_time() {
        let now = Instant::now();
        let all = Holding {
            partitions: Partition::all().collect(),
            until: Some(now + Duration::from_secs(4)),
        };
        assert_eq!(all.at(now + Duration::from_millis(3_999)).len(), 64);
        assert_eq!(all.at(now + Duration::from_secs(4)), Partitions::NONE);
        assert_eq!(Holding { until: None, ..all }.at(now), Partitions::NONE);
    }
}
