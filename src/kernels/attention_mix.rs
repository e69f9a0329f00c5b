//! Host half of `shaders/attention_mix.wgsl`: values by a stored pattern, where that was edited.

use super::attention::Heads;
use super::attention_scores::SLOTS;
use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "attention_mix",
    token_local: false,
    variants,
    params: &[
        ("heads", U32),
        ("group", U32),
        ("head_size", U32),
        ("kv_stride", U32),
        ("first_v", U32),
        ("tiles", U32),
        ("keys", U32),
    ],
};

/// The end of one block's attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionMix {
    /// Where values are; nothing else of it is read.
    pub heads: Heads,
    /// f32 `[tokens, heads, keys]`, keys being those of the batch's longest sequence.
    pub pattern: Slot,
    /// f32 `[tokens, heads, head_size]`.
    pub z: Slot,
}

fn variant(paged: bool) -> Variant {
    let mut bindings = vec![read("tiles"), read("pattern"), read("v"), write("z")];
    if paged {
        bindings.push(read("pages"));
    }
    Variant {
        parts: vec!["tiles", if paged { "keys_paged" } else { "keys_rows" }],
        constants: vec![("SLOTS", SLOTS)],
        bindings,
        ..Variant::new("attention_mix", &[if paged { "paged" } else { "" }])
    }
}

fn variants() -> Vec<Variant> {
    [false, true].map(variant).into()
}

impl AttentionMix {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let h = &self.heads;
        let mut bindings = vec![Slot::Input(Input::Tiles), self.pattern, h.kv, self.z];
        if h.paged() {
            bindings.push(Slot::Input(Input::Pages));
        }
        Dispatch {
            variant: variant(h.paged()),
            params: vec![
                Word::U32(h.heads as u32),
                Word::U32(h.group()),
                Word::U32(h.head_size as u32),
                Word::U32(h.kv_stride as u32),
                Word::U32(h.first_v as u32),
                Word::Extent(Extent::new(1, Dim::Tiles)),
                Word::Extent(Extent::new(1, Dim::Keys)),
            ],
            bindings,
            grid: Grid::new(Extent::new(u64::from(SLOTS) * h.heads as u64, Dim::Tiles), 1),
            work: Work { flops: 2.0 * (h.heads * h.head_size) as f64, dim: Dim::Pairs },
            tilings: Vec::new(),
        }
    }
}
