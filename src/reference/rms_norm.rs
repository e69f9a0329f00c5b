//! RMS normalisation in f64.

/// x / √(mean(x²) + eps) · γ over each row of `gamma.len()` columns.
pub fn rms_norm(x: &[f64], gamma: &[f64], eps: f64) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(gamma.len()) {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        out.extend(row.iter().zip(gamma).map(|(x, g)| x / (mean + eps).sqrt() * g));
    }
    out
}
