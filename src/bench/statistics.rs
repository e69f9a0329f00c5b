//! Median and spread of repeated measurements.

use serde::{Deserialize, Serialize};

/// What is said of some samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// The one in the middle; of an even number, the mean of the two.
    pub median: f64,
    /// The largest less the smallest, as a share of the median.
    pub spread: f64,
}

impl Statistics {
    /// Of samples that are positive and finite; `None` where one is not, or where there is none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        if !(first > 0.0 && last.is_finite()) {
            return None;
        }
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Statistics { median, spread: (last - first) / median })
    }
}

#[cfg(test)]
mod tests {
    use super::Statistics;

    #[test]
    fn median_and_spread() {
        let of = |samples: &[f64]| Statistics::of(samples).map(|s| (s.median, s.spread));
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some((2.0, 1.0)));
        assert_eq!(of(&[4.0, 1.0, 3.0, 1.0]), Some((2.0, 1.5)));
        assert_eq!(of(&[7.0]), Some((7.0, 0.0)));
        assert_eq!(of(&[1.0, 1.0, 1.0, 1.0, 100.0]), Some((1.0, 99.0)));
    }

    #[test]
    fn what_is_no_time_has_no_statistics() {
        for samples in [&[][..], &[1.0, 0.0], &[1.0, -1.0], &[1.0, f64::NAN], &[f64::INFINITY]] {
            assert_eq!(Statistics::of(samples), None, "{samples:?}");
        }
    }
}
