//! L2 normalisation in f64.

/// x / max(‖x‖, 1e-12) over each row.
pub fn l2_normalize(x: &[f64], columns: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks_exact(columns) {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        out.extend(row.iter().map(|x| x / norm.max(1e-12)));
    }
    out
}
