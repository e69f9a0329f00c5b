//! Host half of `shaders/take.wgsl`: some of a buffer's rows, and some columns of each.

use std::ops::Range;

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "take",
    token_local: true,
    variants,
    params: &[("rows", U32), ("columns", U32), ("stride", U32), ("first", U32), ("start", U32), ("each", U32)],
};

/// Rows that are taken out of a buffer.
#[derive(Clone, Debug)]
pub struct Take {
    /// f32 `[rows, stride]`; a row for each token of the batch, where tokens are named.
    pub values: Slot,
    /// How many there are.
    pub rows: Extent,
    /// Elements from one row to the next.
    pub stride: Extent,
    /// Where the columns begin in a row.
    pub first: Extent,
    /// Columns.
    pub columns: Extent,
    /// The tokens of each sequence, all of which every sequence must have; every row where none are named.
    pub tokens: Option<Range<usize>>,
    /// f32 `[rows, columns]`.
    pub taken: Slot,
}

fn variant() -> Variant {
    Variant { bindings: vec![read("sequences"), read("values"), write("taken")], ..Variant::new("take", &[]) }
}

fn variants() -> Vec<Variant> {
    vec![variant()]
}

impl Take {
    /// Rows that are taken of those tokens of each sequence.
    pub fn rows(tokens: &Range<usize>) -> Extent {
        Extent::new(tokens.len() as u64, Dim::Sequences)
    }

    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = self.tokens.as_ref().map_or(self.rows, Self::rows);
        let elements = rows.of_rows(self.columns);
        let (start, each) = self.tokens.as_ref().map_or((0, 0), |tokens| (tokens.start, tokens.len()));
        Dispatch {
            variant: variant(),
            params: vec![
                Word::Extent(rows),
                Word::Extent(self.columns),
                Word::Extent(self.stride),
                Word::Extent(self.first),
                Word::U32(start as u32),
                Word::U32(each as u32),
            ],
            bindings: vec![Slot::Input(Input::Sequences), self.values, self.taken],
            grid: Grid::new(elements, 64),
            work: Work { flops: elements.times as f64, dim: elements.dim },
            tilings: Vec::new(),
        }
    }
}
