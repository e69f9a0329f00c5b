//! Host half of `shaders/summarize.wgsl`: norm, mean and largest element of groups of rows.

use super::{Kernel, ParamType::U32, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "summarize",
    token_local: true,
    variants,
    params: &[("rows", U32), ("groups", U32), ("columns", U32), ("stride", U32), ("first", U32)],
};

/// Numbers that are told of each group: norm, mean, element of largest magnitude, its place.
pub const NUMBERS: usize = 4;

/// What is told of each token's row.
#[derive(Clone, Copy, Debug)]
pub struct Summarize {
    /// How rows are summed.
    pub reduce: Reduce,
    /// f32 `[tokens, stride]`.
    pub values: Slot,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Where the first group of a row begins.
    pub first: usize,
    /// Groups of a row.
    pub groups: usize,
    /// Elements of a group, fewer than 2^24.
    pub columns: usize,
    /// f32 `[tokens, groups, 4]`.
    pub summary: Slot,
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        constants: vec![("LANES", 64)],
        bindings: vec![read("values"), write("summary")],
        ..Variant::new("summarize", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl Summarize {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            variant: variant(self.reduce),
            params: vec![
                Word::Extent(Extent::new(1, Dim::Tokens)),
                Word::U32(self.groups as u32),
                Word::U32(self.columns as u32),
                Word::U32(self.stride as u32),
                Word::U32(self.first as u32),
            ],
            bindings: vec![self.values, self.summary],
            grid: Grid::new(Extent::new(self.groups as u64, Dim::Tokens), 1),
            work: Work { flops: 6.0 * (self.groups * self.columns) as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
