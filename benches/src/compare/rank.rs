//! Whether two sets of samples could be one: the rank-sum test of Wilcoxon, Mann and Whitney.
//!
//! It asks how likely it is that samples of one and the same thing lie so far apart by order alone. It knows no bell curve,
//! and one outlier counts as one sample, however far out it is.

/// With more samples the bell curve is near enough to the exact count.
const EXACT: usize = 40;

/// The chance to see at least this difference between two samplings of the same thing; 1 without samples.
pub fn chance(old: &[f64], new: &[f64]) -> f64 {
    if old.is_empty() || new.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(&[old, new].concat());
    let (count, all) = (new.len(), ranks.len());
    let sum: usize = ranks[old.len()..].iter().sum();
    // Doubled like the ranks, and doubled once more, so that the middle is a whole number.
    let distance = (2 * sum).abs_diff(2 * count * (all + 1));
    if all <= EXACT { exact(&ranks, count, distance) } else { bell(&ranks, count, distance) }
}

/// The smallest chance that so many samples can show.
pub fn least(old: usize, new: usize) -> f64 {
    // Two orders of all that can be have them wholly apart.
    let orders = (0..old.min(new)).fold(1.0, |orders, place| orders * (old + new - place) as f64 / (place + 1) as f64);
    (2.0 / orders).min(1.0)
}

/// Twice the rank of each sample, equal samples sharing theirs.
fn doubled_ranks(samples: &[f64]) -> Vec<usize> {
    let rank = |sample: &f64| {
        let below = samples.iter().filter(|other| other.total_cmp(sample).is_lt()).count();
        let equal = samples.iter().filter(|other| other.total_cmp(sample).is_eq()).count();
        2 * below + equal + 1
    };
    samples.iter().map(rank).collect()
}

/// Counts all ways to choose `count` of the ranks whose sum lies as far from the middle.
fn exact(ranks: &[usize], count: usize, distance: usize) -> f64 {
    let most: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0_f64; most + 1]; count + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for chosen in (1..=count).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            for sum in *rank..=most {
                more[0][sum] += fewer[chosen - 1][sum - rank];
            }
        }
    }
    let middle = 2 * count * (ranks.len() + 1);
    let all: f64 = ways[count].iter().sum();
    let far = ways[count].iter().enumerate().filter(|(sum, _)| (2 * sum).abs_diff(middle) >= distance);
    far.map(|(_, ways)| ways).sum::<f64>() / all
}

/// The same by the bell curve that the sum of ranks comes near to, ties considered.
fn bell(ranks: &[usize], count: usize, distance: usize) -> f64 {
    let (all, count) = (ranks.len() as f64, count as f64);
    let mean = ranks.iter().sum::<usize>() as f64 / all;
    let spread = ranks.iter().map(|rank| (*rank as f64 - mean).powi(2)).sum::<f64>() / (all - 1.0);
    // Of a sum of `count` ranks drawn without replacement.
    let deviation = (spread * count * (1.0 - count / all)).sqrt();
    if deviation == 0.0 {
        return 1.0;
    }
    let away = ((distance as f64 / 2.0 - 1.0).max(0.0)) / deviation;
    (2.0 * tail(away)).min(1.0)
}

/// How much of the bell curve lies above `away` deviations; by a continued fraction in the tail, by a series near the middle.
fn tail(away: f64) -> f64 {
    let density = (-away * away / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if away < 2.5 {
        let (mut term, mut sum) = (away, away);
        for place in 1..60 {
            term *= away * away / f64::from(2 * place + 1);
            sum += term;
        }
        return 0.5 - density * sum;
    }
    density / (1..60).rev().fold(away, |below, place| away + f64::from(place) / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, known: f64) {
        assert!((found - known).abs() < known * 0.01 + 1e-12, "{found} is not {known}");
    }

    #[test]
    fn wholly_apart_is_as_unlikely_as_two_orders_of_all() {
        let (old, new) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        near(chance(&old, &new), 2.0 / 924.0);
        near(chance(&new, &old), 2.0 / 924.0);
        near(least(6, 6), 2.0 / 924.0);
        near(least(3, 3), 0.1);
    }

    #[test]
    fn known_values() {
        // As tables of the test have it: U = 5 of 5 and 5 samples.
        near(chance(&[1.0, 2.0, 3.0, 5.0, 9.0], &[4.0, 6.0, 7.0, 8.0, 10.0]), 0.1508);
        assert_eq!(chance(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0]), 1.0);
        assert_eq!(chance(&[], &[1.0]), 1.0);
    }

    #[test]
    fn the_bell_curve_meets_the_exact_count() {
        let old: Vec<f64> = (0..20).map(f64::from).collect();
        for shift in [0.5, 3.5, 7.5] {
            let new: Vec<f64> = old.iter().map(|value| value + shift).collect();
            let ranks = doubled_ranks(&[old.clone(), new.clone()].concat());
            let sum: usize = ranks[20..].iter().sum();
            let distance = (2 * sum).abs_diff(2 * 20 * 41);
            let (exact, bell) = (exact(&ranks, 20, distance), bell(&ranks, 20, distance));
            assert!((exact - bell).abs() < 0.15 * exact + 0.005, "{shift}: {exact} {bell}");
        }
        near(tail(1.96), 0.024998);
        near(tail(4.0), 3.167e-5);
        near(tail(2.4999), tail(2.5001));
    }

    #[test]
    fn the_same_thing_is_told_apart_as_often_as_promised() {
        let mut state = 7_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64
        };
        let sample = |draw: &mut dyn FnMut() -> f64| (0..10).map(|_| draw()).collect::<Vec<f64>>();
        let alarms = (0..1000).filter(|_| chance(&sample(&mut draw), &sample(&mut draw)) <= 0.05).count();
        assert!((20..=75).contains(&alarms), "{alarms} of 1000");
    }
}
