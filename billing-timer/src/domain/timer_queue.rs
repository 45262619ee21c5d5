//! A priority queue ordered by time. Each key occurs at most once.

use std::collections::BTreeSet;

use contract::Timestamp;

/// When a key is due, if it is in a queue. Its owner keeps it, so that the queue needs no second index by key.
pub type Timer = Option<Timestamp>;

/// Keys, each with the time at which it is due.
#[derive(Debug, Clone)]
pub struct TimerQueue<K> {
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> TimerQueue<K> {
    /// Sets the time of `key`, replacing any earlier one. `timer` is the key's.
    pub fn set(&mut self, timer: &mut Timer, key: K, at: Timestamp) {
        self.cancel(timer, key);
        self.order.insert((at, key));
        *timer = Some(at);
    }

    /// Removes `key`. `timer` is the key's.
    pub fn cancel(&mut self, timer: &mut Timer, key: K) {
        if let Some(at) = timer.take() {
            self.order.remove(&(at, key));
        }
    }

    /// The earliest time.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Removes the earliest key that is due at `now`. The owner clears its timer.
    pub fn pop(&mut self, now: Timestamp) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.order.pop_first().map(|(_, key)| key)
    }

    /// Removes all keys. The owners clear their timers.
    pub fn clear(&mut self) {
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::at;

    #[test]
    fn pops_due_keys_in_order_of_time_and_each_key_once() {
        let (mut queue, mut timers) = (TimerQueue::default(), HashMap::<_, Timer>::new());
        for (key, moment) in [("late", 30), ("moved", 5), ("early", 10), ("gone", 1), ("moved", 20)] {
            queue.set(timers.entry(key).or_default(), key, at(moment));
        }
        queue.cancel(timers.entry("gone").or_default(), "gone");
        assert_eq!(queue.next(), Some(at(10)));
        assert_eq!(queue.pop(at(9)), None);
        let due: Vec<_> = std::iter::from_fn(|| queue.pop(at(29))).collect();
        assert_eq!(due, ["early", "moved"]);
        assert_eq!((timers["gone"], timers["late"]), (None, Some(at(30))));
    }
}
