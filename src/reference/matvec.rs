//! The product of few rows in f64, which is that of many.

pub use super::matmul::matmul as matvec;
