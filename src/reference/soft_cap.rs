//! Soft cap in f64.

/// cap · tanh(x / cap)
pub fn soft_cap(x: &[f64], cap: f64) -> Vec<f64> {
    x.iter().map(|x| cap * (x / cap).tanh()).collect()
}
