//! The number of connected calls, sampled every second.

use std::fmt;

use callpulse_tests::percentile::percentile;

/// The limit of samples. A run is shorter.
const MOST_SECONDS: usize = 100_000;

/// The samples.
#[derive(Debug, Clone, Default)]
pub struct ConnectedCalls {
    target: usize,
    seconds: Vec<usize>,
}

impl ConnectedCalls {
    /// No samples, with a target.
    pub fn new(target: usize) -> Self {
        Self {
            target,
            seconds: Vec::new(),
        }
    }

    /// Adds a sample.
    pub fn note(&mut self, connected: usize) {
        if self.seconds.len() < MOST_SECONDS {
            self.seconds.push(connected);
        }
    }

    fn percentile(&self, percent: usize) -> usize {
        percentile(self.seconds.iter().copied(), percent).unwrap_or_default()
    }
}

impl fmt::Display for ConnectedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.seconds.len().max(1);
        let mean = self.seconds.iter().sum::<usize>() / count;
        let reached = self
            .seconds
            .iter()
            .filter(|connected| **connected >= self.target)
            .count()
            * 100
            / count;
        write!(
            f,
            "{mean} on average, {} at least, {} at most, median {}; {} or more for {reached} % of the time",
            self.percentile(0),
            self.percentile(100),
            self.percentile(50),
            self.target
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_calls_are_summarised() {
        let mut connected_calls = ConnectedCalls::new(3);
        (1..=4).for_each(|connected| connected_calls.note(connected));
        assert_eq!(
            connected_calls.to_string(),
            "2 on average, 1 at least, 4 at most, median 2; 3 or more for 50 % of the time"
        );
    }
}
