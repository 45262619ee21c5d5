//! Seeded random numbers: the same on every machine, and with every version of every crate.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for one purpose, independent of the numbers drawn for others.
    pub fn new(seed: u64, purpose: &[u64]) -> Self {
        let mix = |rng: Self, number: &u64| Self(rng.clone().next_u64() ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        purpose.iter().fold(Self(seed), mix)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to but not including `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// True with this probability, in per cent.
    pub fn chance(&mut self, per_cent: u64) -> bool {
        self.below(100) < per_cent
    }

    /// A duration between the two, in whole milliseconds.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let range = most.saturating_sub(least).as_millis() as u64;
        least + Duration::from_millis(self.below(range + 1))
    }

    /// A random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let draws = |seed, purpose: &[u64]| {
            let mut rng = Rng::new(seed, purpose);
            [rng.next_u64(), rng.next_u64()]
        };
        // The generator's published test vector for seed 0.
        assert_eq!(draws(0, &[]), [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        assert_eq!(draws(7, &[1, 2]), draws(7, &[1, 2]));
        for other in [draws(8, &[1, 2]), draws(7, &[2, 1]), draws(7, &[1])] {
            assert_ne!(draws(7, &[1, 2]), other);
        }
    }

    #[test]
    fn numbers_cover_their_range() {
        let mut rng = Rng::new(1, &[]);
        let draws: Vec<u64> = (0..200).map(|_| rng.below(6)).collect();
        for side in 0..6 {
            assert!(draws.contains(&side));
        }
        assert!(draws.iter().all(|draw| *draw < 6));
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(7));
        assert!((0..50).all(|_| (least..=most).contains(&rng.between(least, most))));
        assert!(!rng.chance(0) && rng.chance(100));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn shuffling_keeps_all_items() {
        let mut items: Vec<u32> = (0..30).collect();
        Rng::new(3, &[]).shuffle(&mut items);
        assert_ne!(items, (0..30).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..30).collect::<Vec<_>>());
    }
}
