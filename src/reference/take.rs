//! Some of a buffer's rows, and some columns of each, in f64.

use std::ops::Range;

/// `columns` of those of the rows that are named, one behind another.
pub fn take(x: &[f64], stride: usize, columns: Range<usize>, rows: impl IntoIterator<Item = usize>) -> Vec<f64> {
    rows.into_iter().flat_map(|row| x[row * stride..(row + 1) * stride][columns.clone()].iter().copied()).collect()
}
