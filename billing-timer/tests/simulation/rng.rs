//! Random numbers from one seed.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): small, with the same sequence on every machine and in every version.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to `most` − 1.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next_u64() % most.max(1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// Including both ends.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    pub(crate) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Log-uniform: each doubling of `least` has the same probability.
    pub(crate) fn span(&mut self, least: Duration, most: Duration) -> Duration {
        let doublings = (most.as_secs_f64() / least.as_secs_f64()).log2();
        #[allow(clippy::cast_precision_loss, reason = "a fraction of a million")]
        let share = self.below(1_000_000) as f64 / 1e6;
        least.mul_f64((doublings * share).exp2())
    }
}

pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
