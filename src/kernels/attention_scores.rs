//! Host half of `shaders/attention_scores.wgsl`: the scores of one sequence, of which instruments make the pattern.

use super::attention::{Heads, RelativeBias};
use super::{Kernel, ParamType::F32, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "attention_scores",
    token_local: false,
    variants,
    params: &[
        ("heads", U32),
        ("group", U32),
        ("head_size", U32),
        ("stride", U32),
        ("first_q", U32),
        ("first_k", U32),
        ("tokens", U32),
        ("before", U32),
        ("after", U32),
        ("reach", U32),
        ("scale", F32),
        ("cap", F32),
    ],
};

/// The scores of one block, for a batch of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct AttentionScores {
    /// Queries and keys, in rows of the same length.
    pub heads: Heads,
    /// Added to the scores.
    pub bias: Option<RelativeBias>,
    /// f32 `[heads, tokens, tokens]`.
    pub scores: Slot,
}

fn variant(bias: bool, cap: bool) -> Variant {
    Variant {
        parts: vec!["tanh"],
        constants: vec![("HAS_BIAS", bias.into()), ("HAS_CAP", cap.into())],
        bindings: vec![read("q"), read("k"), read("bias"), write("scores")],
        ..Variant::new("attention_scores", &[if bias { "bias" } else { "" }, if cap { "cap" } else { "" }])
    }
}

fn variants() -> Vec<Variant> {
    [(false, false), (false, true), (true, false), (true, true)].map(|(bias, cap)| variant(bias, cap)).into()
}

impl AttentionScores {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let h = &self.heads;
        Dispatch {
            variant: variant(self.bias.is_some(), h.cap.is_some()),
            params: vec![
                Word::U32(h.heads as u32),
                Word::U32(h.group()),
                Word::U32(h.head_size as u32),
                Word::U32(h.q_stride as u32),
                Word::U32(h.first_q as u32),
                Word::U32(h.first_k as u32),
                Word::Extent(Extent::new(1, Dim::Tokens)),
                Word::U32(h.mask.before),
                Word::U32(h.mask.after),
                Word::U32(self.bias.map_or(1, |b| b.reach as u32)),
                Word::F32(h.scale),
                Word::F32(h.cap.unwrap_or(1.0)),
            ],
            bindings: vec![h.q, h.kv, self.bias.map_or(h.q, |b| b.table), self.scores],
            grid: Grid::new(Extent::new(h.heads as u64, Dim::Pairs), 64),
            work: Work { flops: 2.0 * (h.heads * h.head_size) as f64, dim: Dim::Pairs },
            tilings: Vec::new(),
        }
    }
}
