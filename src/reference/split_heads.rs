//! Each head alone, in f64.

use std::ops::Range;

/// A row for each wanted head of each token: that head's elements in their places, and zeros elsewhere.
pub fn split_heads(z: &[f64], heads: usize, head_size: usize, wanted: Range<usize>) -> Vec<f64> {
    let mut out = Vec::new();
    for token in z.chunks_exact(heads * head_size) {
        for head in wanted.clone() {
            let own = head * head_size..(head + 1) * head_size;
            out.extend(token.iter().enumerate().map(|(i, x)| if own.contains(&i) { *x } else { 0.0 }));
        }
    }
    out
}
