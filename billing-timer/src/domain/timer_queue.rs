//! A priority queue ordered by time. Each key occurs at most once.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use contract::Timestamp;

/// Keys, each with the time at which it is due.
#[derive(Debug, Clone)]
pub struct TimerQueue<K> {
    order: BTreeSet<(Timestamp, K)>,
    times: HashMap<K, Timestamp>,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            times: HashMap::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> TimerQueue<K> {
    /// Sets the time of `key`, replacing any earlier one.
    pub fn set(&mut self, key: K, at: Timestamp) {
        if let Some(before) = self.times.insert(key.clone(), at) {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((at, key));
    }

    /// Removes `key`.
    pub fn cancel(&mut self, key: &K) {
        if let Some(at) = self.times.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// Whether `key` is in the queue.
    pub fn contains(&self, key: &K) -> bool {
        self.times.contains_key(key)
    }

    /// The earliest time.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Removes the earliest key that is due at `now`.
    pub fn pop(&mut self, now: Timestamp) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.times.remove(&key);
        Some(key)
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.order.clear();
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn pops_due_keys_in_order_of_time_and_each_key_once() {
        let mut schedule = TimerQueue::default();
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
