//! Host half of `shaders/summarize.wgsl`: norm, sum and largest elements of groups of rows.

use super::{Kernel, ParamType::U32, Reduce, Variant, read, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "summarize",
    token_local: true,
    variants,
    params: &[("rows", U32), ("groups", U32), ("columns", U32), ("stride", U32), ("first", U32), ("top", U32)],
};

/// Numbers in front of the largest elements: norm and sum.
pub const FIRST: usize = 2;

/// The most of the largest elements that are told.
pub const MOST: usize = 64;

/// Numbers that are told of each group: norm, sum, then each of the largest elements and its place, which is 2^24 where the
/// group has no more.
pub const fn numbers(top: usize) -> usize {
    FIRST + 2 * top
}

/// What is told of each row.
#[derive(Clone, Copy, Debug)]
pub struct Summarize {
    /// How rows are summed.
    pub reduce: Reduce,
    /// f32 `[rows, stride]`.
    pub values: Slot,
    /// How many rows.
    pub rows: Extent,
    /// Elements from one row to the next.
    pub stride: Extent,
    /// Where the first group of a row begins.
    pub first: Extent,
    /// Groups of a row.
    pub groups: usize,
    /// Elements of a group, fewer than 2^24.
    pub columns: Extent,
    /// How many of the largest elements are told.
    pub top: usize,
    /// f32 `[rows, groups, numbers(top)]`.
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
        let groups = Extent::new(self.rows.times * self.groups as u64, self.rows.dim);
        let elements = groups.of_rows(self.columns);
        Dispatch {
            variant: variant(self.reduce),
            params: vec![
                Word::Extent(self.rows),
                Word::U32(self.groups as u32),
                Word::Extent(self.columns),
                Word::Extent(self.stride),
                Word::Extent(self.first),
                Word::U32(self.top as u32),
            ],
            bindings: vec![self.values, self.summary],
            grid: Grid::new(groups, 1),
            work: Work { flops: 6.0 * elements.times as f64, dim: elements.dim },
            tilings: Vec::new(),
        }
    }
}
