//! Calls whose last stored messages are to be read, the most urgent ones first.

use std::collections::BTreeSet;

use contract::Timestamp;

use crate::domain::work::CallKey;

/// Calls in order of the phase of their minutes.
///
/// Which tick of a call is stored is unknown before the read. The most urgent call is therefore the one whose minute was full
/// most recently: its tick may be due since the previous holder of its partition stopped. Reads go backwards from there, and
/// calls whose minute becomes full meanwhile come first.
#[derive(Debug)]
pub(super) struct ReadQueue {
    interval_ms: u64,
    by_phase: BTreeSet<(u64, CallKey)>,
}

impl ReadQueue {
    pub(super) fn new(interval_ms: u64) -> Self {
        Self {
            interval_ms,
            by_phase: BTreeSet::new(),
        }
    }

    pub(super) fn push(&mut self, connected_at: Option<Timestamp>, key: CallKey) {
        let phase = connected_at.map_or(0, |connected_at| self.phase(connected_at));
        self.by_phase.insert((phase, key));
    }

    pub(super) fn pop(&mut self, now: Timestamp) -> Option<CallKey> {
        let earlier = self.by_phase.range(..(self.phase(now) + 1, CallKey::MIN)).next_back();
        let next = *earlier.or_else(|| self.by_phase.last())?;
        self.by_phase.remove(&next);
        Some(next.1)
    }

    pub(super) fn clear(&mut self) {
        self.by_phase.clear();
    }

    fn phase(&self, at: Timestamp) -> u64 {
        u64::try_from(at.as_millis()).unwrap_or(0) % self.interval_ms.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn the_call_whose_minute_was_full_most_recently_is_read_first() {
        let mut queue = ReadQueue::new(1_000);
        for (index, connected_at) in (0..).zip([Some(100), Some(5_900), Some(300), None, Some(1_300)]) {
            let generation = 0;
            queue.push(connected_at.map(at), CallKey { index, generation });
        }
        let mut next = |now| queue.pop(at(now)).map(|key| key.index);
        assert_eq!(next(9_299), Some(0));
        assert_eq!((next(9_300), next(9_310)), (Some(4), Some(2)));
        assert_eq!((next(9_310), next(9_310), next(9_310)), (Some(3), Some(1), None));
    }
}
