//! Medians, spread, ratios.

use serde::{Deserialize, Serialize};

/// What several values of the same thing come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Summary {
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: percentile(&sorted, 50.0)?,
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }

    /// From the least to the most, as a part of the median.
    pub fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.most - self.least) / self.median }
    }
}

/// Of sorted values, with what lies between two of them drawn as a line.
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = percent / 100.0 * last as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    let part = at - at.floor();
    Some(sorted[below] * (1.0 - part) + sorted[above] * part)
}

/// How many times better `ours` is than `theirs`; nothing is any number of times better than zero.
pub fn times_better(ours: f64, theirs: f64, higher_is_better: bool) -> Option<f64> {
    let (better, worse) = if higher_is_better { (ours, theirs) } else { (theirs, ours) };
    (better > 0.0 && better.is_finite() && worse > 0.0).then(|| better / worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let odd = Summary::of(&[30.0, 10.0, 20.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (20.0, 10.0, 30.0));
        assert!((odd.spread() - 1.0).abs() < 1e-9);
        assert_eq!(Summary::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[0.0]).unwrap().spread(), 0.0);
    }

    #[test]
    fn percentiles() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 99.0), Some(99.0));
        assert_eq!(percentile(&[5.0], 99.0), Some(5.0));
        assert_eq!(percentile(&[0.0, 10.0], 25.0), Some(2.5));
    }

    #[test]
    fn better_depends_on_the_direction() {
        assert_eq!(times_better(1000.0, 100.0, true), Some(10.0));
        assert_eq!(times_better(10.0, 1000.0, false), Some(100.0));
        assert_eq!(times_better(1.0, 0.0, true), None);
        assert_eq!(times_better(1.0, 0.0, false), None);
        assert_eq!(times_better(0.0, 1.0, false), None);
    }
}
