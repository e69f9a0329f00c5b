//! Layer normalisation in f64.

/// (x - mean) / √(variance + eps) · γ + β over each row of `gamma.len()` columns.
pub fn layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(gamma.len()) {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        for (c, x) in row.iter().enumerate() {
            out.push((x - mean) / (variance + eps).sqrt() * gamma[c] + beta[c]);
        }
    }
    out
}
