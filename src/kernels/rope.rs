//! Host half of `shaders/rope.wgsl`: rotary position embedding of heads in place.

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "rope",
    token_local: true,
    variants,
    params: &[("tokens", U32), ("heads", U32), ("head_size", U32), ("pairs", U32), ("stride", U32), ("first", U32)],
};

/// One rotation of heads that stand one behind another.
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// Whether pairs are neighbours; else they are halves of the rotated part.
    pub interleaved: bool,
    /// cos and sin, f32 `[tokens, pairs, 2]`.
    pub angles: Input,
    /// f32 `[tokens, stride]`.
    pub rows: Slot,
    /// Elements in a row.
    pub stride: usize,
    /// Column at which the first head begins.
    pub first: usize,
    /// Heads.
    pub heads: usize,
    /// Elements in a head.
    pub head_size: usize,
    /// Rotated pairs of a head.
    pub pairs: usize,
}

fn variant(interleaved: bool) -> Variant {
    Variant {
        constants: vec![("INTERLEAVED", interleaved.into())],
        bindings: vec![read("angles"), write("rows")],
        ..Variant::new("rope", &[if interleaved { "interleaved" } else { "halves" }])
    }
}

fn variants() -> Vec<Variant> {
    [false, true].map(variant).into()
}

impl Rope {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let count = (self.heads * self.pairs) as u64;
        Dispatch {
            variant: variant(self.interleaved),
            params: vec![
                Word::Extent(Extent::new(1, Dim::Tokens)),
                Word::U32(self.heads as u32),
                Word::U32(self.head_size as u32),
                Word::U32(self.pairs as u32),
                Word::U32(self.stride as u32),
                Word::U32(self.first as u32),
            ],
            bindings: vec![Slot::Input(self.angles), self.rows],
            grid: Grid::new(Extent::new(count, Dim::Tokens), 64),
            work: Work { flops: 8.0 * count as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
