//! What a traced forward saw: named f32 tensors without a batch dimension.

use std::collections::BTreeMap;

use super::Point;
use crate::kernels::summarize::{FIRST, numbers};

/// A tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row by row.
    pub data: Vec<f32>,
}

/// What is told of a point without its elements. Each number is that of a row: of a token and head, of a pattern what a query
/// pays to all keys of its text. Where `heads` is named below, points without heads have one.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// ‖x‖ of each row, `[tokens, heads]`.
    pub norm: Tensor,
    /// The mean of each row's elements, `[tokens, heads]`.
    pub mean: Tensor,
    /// The elements of largest magnitude, of equal ones first the first, `[tokens, heads, k]`: as many as were asked for, or as
    /// a row has. NaN where too few elements are numbers.
    pub top: Tensor,
    /// Where each of those stands in its row; `u32::MAX` where there is none.
    pub places: Vec<u32>,
}

impl Summary {
    /// Of rows of norm, sum and `asked` pairs of an element and its place, of rows of that many elements.
    pub(super) fn of(rows: &[f32], shape: Vec<usize>, columns: usize, asked: usize) -> Self {
        let (top, rows) = (asked.min(columns), rows.chunks_exact(numbers(asked)));
        let pairs = rows.clone().flat_map(|row| row[FIRST..FIRST + 2 * top].chunks_exact(2));
        let place = |place: f32| if (place as usize) < columns { place as u32 } else { u32::MAX };
        let places: Vec<_> = pairs.clone().map(|pair| place(pair[1])).collect();
        let value = |(pair, &place): (&[f32], &u32)| if place == u32::MAX { f32::NAN } else { pair[0] };
        let top = Tensor {
            shape: shape.iter().copied().chain([top]).collect(),
            data: pairs.zip(&places).map(value).collect(),
        };
        let norm = Tensor { shape: shape.clone(), data: rows.clone().map(|row| row[0]).collect() };
        let mean = Tensor { shape, data: rows.map(|row| row[1] / columns as f32).collect() };
        Summary { norm, mean, top, places }
    }
}

/// The points of one forward over one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The token ids.
    pub ids: Vec<u32>,
    /// What was asked for; of a narrowed tap its tokens and heads alone.
    pub tensors: BTreeMap<Point, Tensor>,
}
