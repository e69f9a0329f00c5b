//! Host half of `shaders/attention_scores.wgsl`: the scores of a ragged batch, of which instruments make the pattern.

use super::attention::{Heads, RelativeBias};
use super::{Kernel, ParamType::F32, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "attention_scores",
    token_local: false,
    variants,
    params: &[
        ("heads", U32),
        ("group", U32),
        ("head_size", U32),
        ("q_stride", U32),
        ("kv_stride", U32),
        ("first_q", U32),
        ("first_k", U32),
        ("tiles", U32),
        ("keys", U32),
        ("before", U32),
        ("after", U32),
        ("reach", U32),
        ("scale", F32),
        ("cap", F32),
    ],
};

/// Workgroups that share the queries of a tile, in each head.
pub(super) const SLOTS: u32 = 16;

/// The scores of one block.
#[derive(Clone, Copy, Debug)]
pub struct AttentionScores {
    /// Queries and keys.
    pub heads: Heads,
    /// Added to the scores; not of keys in pages.
    pub bias: Option<RelativeBias>,
    /// f32 `[tokens, heads, keys]`, keys being those of the batch's longest sequence: -1e30 for keys that are hidden or that a
    /// sequence does not have.
    pub scores: Slot,
}

fn variant(paged: bool, bias: bool, cap: bool) -> Variant {
    let tag = |on: bool, tag| if on { tag } else { "" };
    Variant {
        parts: vec!["tiles", "tanh", if paged { "keys_paged" } else { "keys_rows" }],
        constants: vec![("SLOTS", SLOTS), ("HAS_BIAS", bias.into()), ("HAS_CAP", cap.into())],
        bindings: vec![
            read("tiles"),
            read("q"),
            read("k"),
            write("scores"),
            read(if paged { "pages" } else { "bias" }),
        ],
        ..Variant::new("attention_scores", &[tag(paged, "paged"), tag(bias, "bias"), tag(cap, "cap")])
    }
}

fn variants() -> Vec<Variant> {
    // decoders have no biases by relative position
    let kinds = [(false, false), (false, true), (true, false)];
    kinds.into_iter().flat_map(|(paged, bias)| [false, true].map(|cap| variant(paged, bias, cap))).collect()
}

impl AttentionScores {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let h = &self.heads;
        Dispatch {
            variant: variant(h.paged(), self.bias.is_some(), h.cap.is_some()),
            params: vec![
                Word::U32(h.heads as u32),
                Word::U32(h.group()),
                Word::U32(h.head_size as u32),
                Word::U32(h.q_stride as u32),
                Word::U32(h.kv_stride as u32),
                Word::U32(h.first_q as u32),
                Word::U32(h.first_k as u32),
                Word::Extent(Extent::new(1, Dim::Tiles)),
                Word::Extent(Extent::new(1, Dim::Keys)),
                Word::U32(h.mask.before),
                Word::U32(h.mask.after),
                Word::U32(self.bias.map_or(1, |b| b.reach as u32)),
                Word::F32(h.scale),
                Word::F32(h.cap.unwrap_or(1.0)),
            ],
            bindings: vec![
                Slot::Input(Input::Tiles),
                h.q,
                h.kv,
                self.scores,
                if h.paged() { Slot::Input(Input::Pages) } else { self.bias.map_or(h.q, |b| b.table) },
            ],
            grid: Grid::new(Extent::new(u64::from(SLOTS) * h.heads as u64, Dim::Tiles), 1),
            work: Work { flops: 2.0 * (h.heads * h.head_size) as f64, dim: Dim::Pairs },
            tilings: Vec::new(),
        }
    }
}
