//! What a party heard: how many packets it had received, over time.

use std::iter;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often packets are counted.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// A gap this short is not an interruption.
const GAP_MS: i64 = 600;

/// Counts of received packets, each with its time.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) samples: Vec<(i64, u64)>,
}

impl Heard {
    /// When sound was back after an interruption that began at `gone`: the end of the last gap. `None` if it is not back.
    pub(crate) fn back_at(&self, gone: i64) -> Option<i64> {
        let since = iter::once(gone).chain(self.arrivals().into_iter().filter(|at| *at > gone));
        let arrivals: Vec<i64> = since.collect();
        let recent = *arrivals.last()?;
        let end = self.samples.last()?.0;
        if end - recent > GAP_MS {
            return None;
        }
        let gaps = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > GAP_MS);
        Some(gaps.map(|pair| pair[1]).next_back().unwrap_or(gone))
    }

    /// The packets of all samples.
    pub(crate) fn packets(&self) -> u64 {
        let count = |sample: Option<&(i64, u64)>| sample.map_or(0, |(_, packets)| *packets);
        count(self.samples.last()) - count(self.samples.first())
    }

    /// The time that the samples cover.
    pub(crate) fn lasted_ms(&self) -> i64 {
        let time = |sample: Option<&(i64, u64)>| sample.map_or(0, |(at, _)| *at);
        time(self.samples.last()) - time(self.samples.first())
    }

    /// When the count had grown.
    fn arrivals(&self) -> Vec<i64> {
        let pairs = self.samples.windows(2);
        pairs
            .filter(|pair| pair[1].1 > pair[0].1)
            .map(|pair| pair[1].0)
            .collect()
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or_default()
}
