//! Latencies in buckets of less than 1 % of their value, which any thread may record without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per power of two: 2^7.
const PRECISION: u32 = 7;
const BUCKETS: usize = (64 - PRECISION as usize) << PRECISION;

/// A histogram of nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<AtomicU64>,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::default()).collect();
        Self { buckets }
    }
}

impl Histogram {
    /// Adds a value.
    pub fn record(&self, nanos: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets all values.
    pub fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// The value that this share of the values does not exceed, in nanoseconds; 0 without values.
    pub fn quantile(&self, share: f64) -> u64 {
        let counts = || self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let rank = (counts().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = counts().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        found.map_or(0, value_of)
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.max(1 << PRECISION);
    let exponent = u64::BITS - 1 - nanos.leading_zeros() - PRECISION;
    let mantissa = (nanos >> exponent) as usize - (1 << PRECISION);
    ((exponent as usize) << PRECISION) + mantissa
}

fn value_of(bucket: usize) -> u64 {
    let mantissa = (bucket & ((1 << PRECISION) - 1)) as u64 + (1 << PRECISION);
    mantissa << (bucket >> PRECISION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_percent() {
        let histogram = Histogram::default();
        for nanos in 1..=100_000_u64 {
            histogram.record(nanos * 1_000);
        }
        for (share, exact) in [(0.5, 50e6), (0.99, 99e6), (1.0, 100e6)] {
            let found = histogram.quantile(share) as f64;
            assert!((found - exact).abs() / exact < 0.01, "{share}: {found}");
        }
        histogram.clear();
        assert_eq!(histogram.quantile(0.5), 0);
        histogram.record(u64::MAX);
        assert!(histogram.quantile(0.5) > u64::MAX / 2);
    }
}
