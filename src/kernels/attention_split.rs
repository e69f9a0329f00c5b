//! Host half of `shaders/attention_split.wgsl`: a decode step's attention within pieces of a sequence's keys.

use super::attention::{Heads, MAX_HEAD_SIZE, SPLIT, quads};
use super::{Kernel, Load, ParamType::F32, ParamType::U32, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "attention_split",
    token_local: false,
    variants,
    params: &[
        ("heads", U32),
        ("group", U32),
        ("head_size", U32),
        ("quads", U32),
        ("q_stride", U32),
        ("kv_stride", U32),
        ("first_q", U32),
        ("first_k", U32),
        ("first_v", U32),
        ("tiles", U32),
        ("splits", U32),
        ("before", U32),
        ("after", U32),
        ("scale", F32),
        ("cap", F32),
    ],
};

/// Attention of one block in a decode step, up to [`AttentionMerge`](super::attention_merge::AttentionMerge). Tiles are of
/// one query.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSplit {
    /// Queries, and keys and values in a cache.
    pub heads: Heads,
    /// f32 `[tiles, splits, heads, head_size + 2]`: weighted sum, largest score, sum of the weights.
    pub partial: Slot,
    /// f32 `[tokens, heads, head_size]`, of sequences of one split.
    pub z: Slot,
    /// How scores are summed and compared.
    pub reduce: Reduce,
}

fn variant(head_size: usize, load: Load, cap: bool, reduce: Reduce) -> Variant {
    let room = quads(head_size);
    let size = format!("{}", room * 4);
    let mut variant = Variant {
        parts: vec!["tiles", "tanh", load.heads_part(), "keys_paged"],
        constants: vec![("LANES", 128), ("SPLIT", SPLIT), ("QUADS", room), ("HAS_CAP", cap.into())],
        bindings: vec![read("tiles"), read("q"), read("k"), read("v"), write("partials"), write("z"), read("pages")],
        ..Variant::new("attention_split", &[&size, load.tag(), reduce.tag(), if cap { "cap" } else { "" }])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for head_size in [32, 64, 128, 256] {
        for load in Load::ALL {
            for cap in [false, true] {
                all.extend(Reduce::ALL.map(|reduce| variant(head_size, load, cap, reduce)));
            }
        }
    }
    all
}

impl AttentionSplit {
    /// The dispatch.
    ///
    /// # Panics
    /// If the heads are larger than [`MAX_HEAD_SIZE`]; a model's spec is checked before.
    pub fn dispatch(&self) -> Dispatch {
        let h = &self.heads;
        assert!(h.head_size <= MAX_HEAD_SIZE, "heads of {} elements", h.head_size);
        Dispatch {
            variant: variant(h.head_size, h.load(), h.cap.is_some(), self.reduce),
            params: vec![
                Word::U32(h.heads as u32),
                Word::U32(h.group()),
                Word::U32(h.head_size as u32),
                Word::U32(h.head_size.div_ceil(4) as u32),
                Word::U32(h.q_stride as u32),
                Word::U32(h.kv_stride as u32),
                Word::U32(h.first_q as u32),
                Word::U32(h.first_k as u32),
                Word::U32(h.first_v as u32),
                Word::Extent(Extent::new(1, Dim::Tiles)),
                Word::Extent(Extent::new(1, Dim::Splits)),
                Word::U32(h.mask.before),
                Word::U32(h.mask.after),
                Word::F32(h.scale),
                Word::F32(h.cap.unwrap_or(1.0)),
            ],
            bindings: vec![Slot::Input(Input::Tiles), h.q, h.kv, h.kv, self.partial, self.z, Slot::Input(Input::Pages)],
            grid: Grid::new(Extent::new(h.heads as u64, Dim::Partials), 1),
            work: Work { flops: 4.0 * (h.heads * h.head_size) as f64, dim: Dim::Pairs },
            tilings: Vec::new(),
        }
    }
}

/// Elements that so many heads of that size need for each tile and split.
pub fn partial_size(heads: usize, head_size: usize) -> usize {
    heads * (head_size + 2)
}
