//! Host half of `shaders/split_heads.wgsl`: a row of all heads becomes a row for each.

use std::ops::Range;

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "split_heads",
    token_local: true,
    variants,
    params: &[("rows", U32), ("heads", U32), ("head_size", U32), ("first", U32), ("wanted", U32)],
};

/// Each head alone.
#[derive(Clone, Debug)]
pub struct SplitHeads {
    /// f32 `[tokens, heads, head_size]`.
    pub z: Slot,
    /// f32 `[tokens, wanted, heads · head_size]`.
    pub split: Slot,
    /// Rows of z.
    pub tokens: Extent,
    /// Heads.
    pub heads: usize,
    /// Those that are wanted.
    pub wanted: Range<usize>,
    /// Elements of a head.
    pub head_size: usize,
}

fn variant() -> Variant {
    Variant { bindings: vec![read("z"), write("split")], ..Variant::new("split_heads", &[]) }
}

fn variants() -> Vec<Variant> {
    vec![variant()]
}

impl SplitHeads {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let (wanted, columns) = (self.wanted.len(), self.heads * self.head_size);
        let elements = wanted * columns;
        Dispatch {
            variant: variant(),
            params: vec![
                Word::Extent(Extent::new(self.tokens.times * wanted as u64, self.tokens.dim)),
                Word::U32(self.heads as u32),
                Word::U32(self.head_size as u32),
                Word::U32(self.wanted.start as u32),
                Word::U32(wanted as u32),
            ],
            bindings: vec![self.z, self.split],
            grid: Grid::new(Extent::new(self.tokens.times * elements as u64, self.tokens.dim), 64),
            work: Work { flops: (self.tokens.times * elements as u64) as f64, dim: self.tokens.dim },
            tilings: Vec::new(),
        }
    }
}
