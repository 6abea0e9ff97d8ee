//! Where a value stands on a chart: linear where values lie close together, by powers where they do not.

use crate::statistics::{maximum, minimum};

/// An axis from `low` to `high` over a stretch of the drawing.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

/// Values that differ more than this are drawn on a logarithmic axis.
const WIDE: f64 = 4.0;

impl Axis {
    /// For ratios: always shows 1, and never less than a tenth to either side, so that noise does not look like much.
    pub fn of_ratios(values: &[f64], from: f64, to: f64) -> Self {
        let low = minimum(values).unwrap_or(1.0).min(0.9);
        let high = maximum(values).unwrap_or(1.0).max(1.1);
        if low > 0.0 && high / low > WIDE {
            return Self { low: low / 1.1, high: high * 1.15, logarithmic: true, from, to };
        }
        let room = (high - low) * 0.06;
        Self { low: low - room, high: high + room, logarithmic: false, from, to }
    }

    /// For amounts: from zero, unless they are too far apart.
    pub fn of_amounts(values: &[f64], from: f64, to: f64) -> Self {
        let (low, high) = (minimum(values).unwrap_or(0.0), maximum(values).unwrap_or(1.0).max(f64::MIN_POSITIVE));
        if low > 0.0 && high / low > 10.0 {
            return Self { low: low / 1.3, high: high * 1.3, logarithmic: true, from, to };
        }
        Self { low: 0.0, high: high * 1.08, logarithmic: false, from, to }
    }

    /// For numbers of something, such as 1, 4, 16: by powers.
    pub fn of_counts(values: &[f64], from: f64, to: f64) -> Self {
        let (low, high) = (minimum(values).unwrap_or(1.0).max(0.5), maximum(values).unwrap_or(2.0));
        Self { low, high: high.max(low * 2.0), logarithmic: true, from, to }
    }

    /// Whether it goes by powers.
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// Where it begins.
    pub fn start(&self) -> f64 {
        self.from
    }

    /// Where a value stands; what lies outside stands at the end.
    pub fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// Round values to mark, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        if self.logarithmic { self.powers(count) } else { self.steps(count) }
    }

    fn steps(&self, count: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(power * 10.0);
        let first = (self.low / step).ceil();
        // Whole numbers of steps, so that rounding does not add up.
        let marks = (0..100).map(|more| (first + f64::from(more)) * step);
        marks.take_while(|mark| *mark <= self.high).collect()
    }

    fn powers(&self, count: usize) -> Vec<f64> {
        let decades = || (-12..13).map(|power| 10f64.powi(power));
        let within = |marks: &[f64]| -> Vec<f64> {
            decades()
                .flat_map(|decade| marks.iter().map(move |mark| mark * decade))
                .filter(|mark| (self.low..=self.high).contains(mark))
                .collect()
        };
        let choices: [&[f64]; 4] = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let all = choices.map(within);
        let fitting = all.iter().find(|marks| marks.len() <= count);
        match fitting {
            Some(marks) => marks.clone(),
            None => {
                let every = all[3].len().div_ceil(count.max(1));
                all[3].iter().copied().step_by(every).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_not_blown_up() {
        let axis = Axis::of_ratios(&[0.99, 1.01], 0.0, 100.0);
        assert!(!axis.is_logarithmic());
        let spread = axis.at(1.01) - axis.at(0.99);
        assert!(spread < 15.0, "{spread} of 100");
    }

    #[test]
    fn what_lies_far_apart_goes_by_powers() {
        let axis = Axis::of_ratios(&[1.0, 42.0], 0.0, 100.0);
        assert!(axis.is_logarithmic());
        assert!((axis.at(4.0) - axis.at(2.0) - (axis.at(20.0) - axis.at(10.0))).abs() < 1e-9);
        assert_eq!((axis.at(0.001), axis.at(1e9)), (0.0, 100.0));
    }

    #[test]
    fn amounts_begin_at_zero() {
        let axis = Axis::of_amounts(&[3.0, 6.0], 10.0, 110.0);
        assert_eq!(axis.at(0.0), 10.0);
        assert!(!axis.is_logarithmic() && Axis::of_amounts(&[1.0, 1000.0], 0.0, 1.0).is_logarithmic());
    }

    #[test]
    fn ticks_are_round_few_and_inside() {
        for values in [[0.97, 1.03], [0.9, 1.9], [1.0, 42.0], [0.8, 3000.0], [1.0, 5.0]] {
            let axis = Axis::of_ratios(&values, 0.0, 1.0);
            let ticks = axis.ticks(6);
            assert!((2..=7).contains(&ticks.len()), "{values:?}: {ticks:?}");
            assert!(ticks.is_sorted() && ticks.iter().all(|tick| (0.0..=1.0).contains(&axis.at(*tick))), "{ticks:?}");
        }
        let narrow = Axis::of_ratios(&[1.0, 1.0], 0.0, 1.0).ticks(5);
        assert_eq!(
            narrow.iter().map(|tick| format!("{tick:.2}")).collect::<Vec<_>>().join(" "),
            "0.90 0.95 1.00 1.05 1.10"
        );
    }
}
