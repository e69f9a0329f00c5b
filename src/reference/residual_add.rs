//! Residual addition in f64.

/// stream + term, element by element.
pub fn residual_add(stream: &[f64], term: &[f64]) -> Vec<f64> {
    stream.iter().zip(term).map(|(s, t)| s + t).collect()
}
