//! Medians, and how far to trust them.
//!
//! Timings are skewed and have outliers, so nothing here assumes a bell curve: the middle is the median, and its
//! interval comes from the bootstrap (draw as many samples again with replacement, take the median, repeat; the middle
//! 95 % of those medians is the interval). The draws come from a fixed seed: the same samples give the same interval.
//!
//! Fewer than [`FEW`] samples cannot make such an interval: all of five lie on one side of the true median one time in
//! sixteen. Theirs is their range, and whoever shows it says so.

use serde::{Deserialize, Serialize};

/// How often the samples are drawn again.
const DRAWS: usize = 2000;
/// Where the draws begin.
const SEED: u64 = 0x5e47_5e47_5e47_5e47;

/// With fewer samples the interval is their range, from the smallest to the largest.
pub const FEW: usize = 6;

/// A middle with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median of the samples.
    pub median: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// The middle sample, or the mean of the two middle ones; none without samples.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => sorted.get(half).copied(),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// The smallest sample.
pub fn minimum(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().min_by(f64::total_cmp)
}

/// The largest sample.
pub fn maximum(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().max_by(f64::total_cmp)
}

/// The median and its interval; none without samples.
pub fn estimate(samples: &[f64]) -> Option<Estimate> {
    let centre = median(samples)?;
    if samples.len() < FEW {
        return Some(Estimate { median: centre, low: minimum(samples)?, high: maximum(samples)? });
    }
    let mut draws = Draws(SEED);
    Some(interval(centre, || again(samples, &mut draws)))
}

/// How many times the median of `old` the median of `new` is. The samples of both are drawn again, each on its own.
///
/// None without samples, or when there is nothing to divide by.
pub fn change(old: &[f64], new: &[f64]) -> Option<Estimate> {
    let centre = median(new)? / median(old)?;
    if old.iter().chain(new).any(|&sample| sample <= 0.0) {
        return None;
    }
    if old.len().min(new.len()) < FEW {
        let (low, high) = (minimum(new)? / maximum(old)?, maximum(new)? / minimum(old)?);
        return Some(Estimate { median: centre, low, high });
    }
    let mut draws = Draws(SEED);
    Some(interval(centre, || Some(again(new, &mut draws)? / again(old, &mut draws)?)))
}

/// The median of as many samples drawn again.
fn again(samples: &[f64], draws: &mut Draws) -> Option<f64> {
    let mut drawn: Vec<f64> = samples.iter().map(|_| samples[draws.below(samples.len())]).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    middle(&drawn)
}

/// The middle 95 % of what `draw` says, around `centre`.
fn interval(centre: f64, mut draw: impl FnMut() -> Option<f64>) -> Estimate {
    let mut drawn: Vec<f64> = (0..DRAWS).filter_map(|_| draw()).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    let tail = drawn.len() * 25 / 1000;
    let at = |place: usize| drawn.get(place).copied().unwrap_or(centre);
    Estimate { median: centre, low: at(tail), high: at(drawn.len().saturating_sub(1 + tail)) }
}

/// `ours` over `native`, pair by pair: what disturbed a whole round cancels out.
///
/// None when the rounds do not pair up or a native sample is not positive, for then there is nothing to divide by.
pub fn ratio(ours: &[f64], native: &[f64]) -> Option<Estimate> {
    if native.iter().any(|&sample| sample <= 0.0) {
        return None;
    }
    pairwise(ours, native, |ours, native| ours / native)
}

/// `ours` minus `native`, pair by pair.
pub fn difference(ours: &[f64], native: &[f64]) -> Option<Estimate> {
    pairwise(ours, native, |ours, native| ours - native)
}

fn pairwise(ours: &[f64], native: &[f64], compare: impl Fn(f64, f64) -> f64) -> Option<Estimate> {
    if ours.len() != native.len() {
        return None;
    }
    let pairs: Vec<f64> = ours.iter().zip(native).map(|(&ours, &native)| compare(ours, native)).collect();
    estimate(&pairs)
}

/// Evenly spread numbers (splitmix64): no dependency, and the same on every machine.
struct Draws(u64);

impl Draws {
    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The high half of the product is below `bound`, so nothing is cut off.
        usize::try_from((u128::from(mixed) * bound as u128) >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        assert_eq!(median(&[1.0, 1.0, 1.0, 1.0, 1000.0]), Some(1.0));
    }

    #[test]
    fn minimum_is_the_smallest() {
        assert_eq!(minimum(&[3.0, 1.5, 2.0]), Some(1.5));
        assert_eq!(minimum(&[]), None);
    }

    #[test]
    fn few_samples_have_a_range_and_not_an_interval() {
        let five = estimate(&[9.0, 1.0, 5.0, 5.0, 5.0]).unwrap();
        assert_eq!(five, Estimate { median: 5.0, low: 1.0, high: 9.0 });
        let many = estimate(&[1.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 9.0]).unwrap();
        assert_eq!((many.low, many.high), (5.0, 5.0));
    }

    #[test]
    fn a_change_has_an_interval_of_its_own() {
        let old: Vec<f64> = (0..12).map(|n| 100.0 + f64::from(n % 3)).collect();
        let twice: Vec<f64> = old.iter().map(|value| value * 2.0).collect();
        let same = change(&old, &old).unwrap();
        assert!(same.low < 1.0 && same.high > 1.0 && same.median == 1.0, "{same:?}");
        let slower = change(&old, &twice).unwrap();
        assert!(slower.median == 2.0 && slower.low > 1.9 && slower.high < 2.1, "{slower:?}");
        assert_eq!(change(&[2.0, 4.0], &[4.0, 8.0]).unwrap(), Estimate { median: 2.0, low: 1.0, high: 4.0 });
        assert_eq!((change(&[], &[1.0]), change(&[1.0], &[]), change(&[0.0], &[1.0])), (None, None, None));
    }

    #[test]
    fn interval_of_equal_samples_is_a_point() {
        assert_eq!(estimate(&[5.0; 9]), Some(Estimate { median: 5.0, low: 5.0, high: 5.0 }));
    }

    #[test]
    fn interval_holds_the_median_and_lies_within_the_samples() {
        let samples: Vec<f64> = (1..=15).map(f64::from).collect();
        let found = estimate(&samples).unwrap();
        assert_eq!(found.median, 8.0);
        // Order statistics of 15 samples: the exact 95 % interval of the median is the 4th to the 12th.
        assert!((3.0..=5.0).contains(&found.low), "{found:?}");
        assert!((11.0..=13.0).contains(&found.high), "{found:?}");
    }

    #[test]
    fn more_samples_make_the_interval_narrower() {
        let few: Vec<f64> = (0..10).map(|n| f64::from(n % 10)).collect();
        let many: Vec<f64> = (0..1000).map(|n| f64::from(n % 10)).collect();
        let width = |samples: &[f64]| estimate(samples).map(|found| found.high - found.low).unwrap();
        assert!(width(&many) < width(&few));
    }

    #[test]
    fn interval_misses_the_true_median_about_one_time_in_twenty() {
        let mut draws = Draws(1);
        let misses = (0..200)
            .filter(|_| {
                let samples: Vec<f64> = (0..25).map(|_| draws.below(1_000_001) as f64).collect();
                let found = estimate(&samples).unwrap();
                !(found.low..=found.high).contains(&500_000.0)
            })
            .count();
        assert!((2..=25).contains(&misses), "{misses} of 200");
    }

    #[test]
    fn estimates_repeat() {
        let samples = [9.0, 2.0, 7.0, 4.0, 8.0, 1.0];
        assert_eq!(estimate(&samples), estimate(&samples));
    }

    #[test]
    fn ratio_goes_pair_by_pair() {
        // The second round was slow for everybody: the ratio does not see it, the ratio of the medians would.
        let found = ratio(&[2.0, 20.0, 2.0, 22.0], &[1.0, 10.0, 1.0, 11.0]).unwrap();
        assert_eq!(found, Estimate { median: 2.0, low: 2.0, high: 2.0 });
    }

    #[test]
    fn ratio_needs_pairs_and_a_divisor() {
        assert_eq!(ratio(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio(&[], &[]), None);
    }

    #[test]
    fn difference_goes_pair_by_pair() {
        let found = difference(&[81.0, 121.0], &[60.0, 100.0]).unwrap();
        assert_eq!(found.median, 21.0);
    }
}
