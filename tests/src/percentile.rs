//! Percentiles.

use std::cmp::Ordering;

/// A percentile by the nearest rank: the smallest value that so many percent of all values do not exceed, so it was measured.
/// 50 is the median, 100 the maximum, 0 the minimum.
pub fn percentile<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>, percent: usize) -> Option<T> {
    let mut sorted: Vec<T> = values.into_iter().collect();
    sorted.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_by_the_nearest_rank() {
        let found = |count: u32| [0, 50, 99, 100].map(|percent| percentile((1..=count).rev(), percent));
        assert_eq!(found(200), [1, 100, 198, 200].map(Some));
        assert_eq!(found(4), [1, 2, 4, 4].map(Some));
        assert_eq!(found(0), [None; 4]);
    }
}
