//! Pooling in f64, as sentence-transformers defines it.

use crate::files::Pooling;

/// One vector for a sequence's rows, of which the first `skip` are left out.
pub fn pool(rows: &[f64], columns: usize, skip: usize, mode: Pooling) -> Vec<f64> {
    let rows: Vec<_> = rows.chunks_exact(columns).collect();
    let weight = |i: usize| if mode == Pooling::WeightedMean { (i + 1) as f64 } else { 1.0 };
    let total: f64 = (skip..rows.len()).map(weight).sum();
    (0..columns)
        .map(|c| {
            let sum = || (skip..rows.len()).map(|i| rows[i][c] * weight(i)).sum::<f64>();
            match mode {
                Pooling::Cls => rows[skip][c],
                Pooling::LastToken => rows[rows.len() - 1][c],
                Pooling::Max => (skip..rows.len()).map(|i| rows[i][c]).fold(f64::NEG_INFINITY, f64::max),
                Pooling::Mean | Pooling::WeightedMean => sum() / total,
                Pooling::MeanSqrtLenTokens => sum() / total.sqrt(),
            }
        })
        .collect()
}
