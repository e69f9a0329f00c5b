//! Softmax in f64.

/// exp(x - max) / Σ exp(x - max) over each row.
pub fn softmax(x: &[f64], columns: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(columns) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        out.extend(row.iter().map(|x| (x - largest).exp() / sum));
    }
    out
}
