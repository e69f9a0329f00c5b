//! Host half of `shaders/attention_merge.wgsl`: makes the output of a decode step's attention of its pieces.

use super::attention::{Heads, SPLIT};
use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "attention_merge",
    token_local: true,
    variants,
    params: &[("heads", U32), ("head_size", U32), ("tiles", U32), ("splits", U32), ("before", U32), ("after", U32)],
};

/// What follows an [`AttentionSplit`](super::attention_split::AttentionSplit) of the same heads. Where no sequence of a batch
/// has several splits, there is nothing to run.
#[derive(Clone, Copy, Debug)]
pub struct AttentionMerge {
    /// The same.
    pub heads: Heads,
    /// f32 `[tiles, splits, heads, head_size + 2]`.
    pub partial: Slot,
    /// f32 `[tokens, heads, head_size]`.
    pub z: Slot,
}

fn variants() -> Vec<Variant> {
    vec![Variant {
        constants: vec![("SPLIT", SPLIT)],
        bindings: vec![read("tiles"), read("partials"), write("z")],
        ..Variant::new("attention_merge", &[])
    }]
}

impl AttentionMerge {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let h = &self.heads;
        let width = h.heads * h.head_size;
        Dispatch {
            variant: variants().remove(0),
            params: vec![
                Word::U32(h.heads as u32),
                Word::U32(h.head_size as u32),
                Word::Extent(Extent::new(1, Dim::Tiles)),
                Word::Extent(Extent::new(1, Dim::Splits)),
                Word::U32(h.mask.before),
                Word::U32(h.mask.after),
            ],
            bindings: vec![Slot::Input(Input::Tiles), self.partial, self.z],
            grid: Grid::new(Extent::new(width as u64, Dim::Merges), 64),
            work: Work { flops: 8.0 * width as f64, dim: Dim::Partials },
            tilings: Vec::new(),
        }
    }
}
