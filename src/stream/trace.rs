//! What a traced forward saw: named f32 tensors without a batch dimension.

use std::collections::BTreeMap;

use super::Point;

/// A tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row by row.
    pub data: Vec<f32>,
}

/// The points of one forward over one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The token ids.
    pub ids: Vec<u32>,
    /// What was asked for.
    pub tensors: BTreeMap<Point, Tensor>,
}
