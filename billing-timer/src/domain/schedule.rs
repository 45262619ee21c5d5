//! A queue in the order of time, in which each key stands once.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use contract::Timestamp;

/// Keys, each with the moment at which it is due.
#[derive(Debug, Clone)]
pub struct Schedule<K> {
    order: BTreeSet<(Timestamp, K)>,
    moments: HashMap<K, Timestamp>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            moments: HashMap::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Schedule<K> {
    /// Makes `key` due at `at`, and no longer at any other moment.
    pub fn set(&mut self, key: K, at: Timestamp) {
        if let Some(before) = self.moments.insert(key.clone(), at) {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((at, key));
    }

    /// Takes `key` out.
    pub fn cancel(&mut self, key: &K) {
        if let Some(at) = self.moments.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// Whether `key` stands in it.
    pub fn contains(&self, key: &K) -> bool {
        self.moments.contains_key(key)
    }

    /// When the first is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out the first that is due by `now`.
    pub fn pop(&mut self, now: Timestamp) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.moments.remove(&key);
        Some(key)
    }

    /// Takes out everything.
    pub fn clear(&mut self) {
        self.order.clear();
        self.moments.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn gives_what_is_due_in_the_order_of_time_and_each_key_once() {
        let mut schedule = Schedule::default();
        for (key, moment) in [("late", 30), ("moved", 5), ("early", 10), ("gone", 1), ("moved", 20)] {
            schedule.set(key, at(moment));
        }
        schedule.cancel(&"gone");
        assert_eq!(schedule.next(), Some(at(10)));
        assert_eq!(schedule.pop(at(9)), None);
        let due: Vec<_> = std::iter::from_fn(|| schedule.pop(at(29))).collect();
        assert_eq!(due, ["early", "moved"]);
        assert!(schedule.contains(&"late") && !schedule.contains(&"moved"));
    }
}
