//! T5's relative position buckets (Raffel et al. 2020, as MPNet uses them), spread into a table by distance.

use super::spec::RelativeBuckets;

impl RelativeBuckets {
    /// The bucket of a key that stands `distance` tokens after its query.
    ///
    /// Half of the buckets are for keys after the query; in each half, half are for exact distances, and the others
    /// grow logarithmically up to `max_distance`.
    pub fn of(&self, distance: i64) -> usize {
        let half = self.buckets / 2;
        let exact = half / 2;
        let direction = if distance > 0 { half } else { 0 };
        let distance = distance.unsigned_abs() as usize;
        if distance < exact {
            return direction + distance;
        }
        let ratio = (distance as f64 / exact as f64).ln() / (self.max_distance as f64 / exact as f64).ln();
        let bucket = exact + (ratio * (half - exact) as f64) as usize;
        direction + bucket.min(half - 1)
    }

    /// Spreads weights `[buckets, heads]` into a table `[heads, 2·reach - 1]` at `key - query + reach - 1`.
    pub fn table(&self, weights: &[f32], heads: usize, reach: usize) -> Vec<f32> {
        let bucket = |i: usize| self.of(i as i64 - (reach as i64 - 1));
        (0..heads)
            .flat_map(|head| (0..2 * reach - 1).map(move |i| (head, i)))
            .map(|(head, i)| weights[bucket(i) * heads + head])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distances at which transformers' MPNet changes buckets.
    #[test]
    fn buckets() {
        let b = RelativeBuckets { buckets: 32, max_distance: 128 };
        assert_eq!((0..=8).map(|d| b.of(-d)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let changes: Vec<_> = (9..600).filter(|&d| b.of(-d) != b.of(1 - d)).collect();
        assert_eq!(changes, [12, 16, 23, 32, 46, 64, 91]);
        assert_eq!(b.of(1), 17);
        assert_eq!(b.of(600), 31);
        assert_eq!(b.of(-600), 15);
    }
}
