//! Host half of `shaders/logit_stats.wgsl`: what rows of logits say, beside rows that they are compared with.

use super::{Kernel, ParamType::U32, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry. A row depends on the row that it is compared with.
pub const KERNEL: Kernel = Kernel {
    name: "logit_stats",
    token_local: false,
    variants,
    params: &[("rows", U32), ("columns", U32), ("top", U32)],
};

/// Instead of a number or an id that a row does not give, since something in it is no number or it has fewer tokens: no id,
/// and an ordinary float in the eyes of who reads floats back.
pub const NOTHING: u32 = 0x7f00_0000;

/// Words in front of the likeliest tokens: largest logit, log Σ exp(x - largest), entropy, KL, token, rank, its logit.
pub const FIRST: usize = 7;

/// The most of the likeliest tokens.
pub const MOST: usize = 64;

/// Statistics of rows of logits, by the batch's readings.
#[derive(Clone, Copy, Debug)]
pub struct LogitStats {
    /// How rows are summed.
    pub reduce: Reduce,
    /// f32 `[tokens, columns]`.
    pub logits: Slot,
    /// Tokens of the vocabulary; below 2^24.
    pub columns: usize,
    /// How many of the likeliest tokens are named.
    pub top: usize,
    /// u32 `[tokens, words(top)]`: see [`FIRST`], then id and logit of each of the likeliest.
    pub stats: Slot,
}

/// Words of a row of results.
pub const fn words(top: usize) -> usize {
    FIRST + 2 * top
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        parts: vec!["logits"],
        constants: vec![("LANES", 256)],
        bindings: vec![read("readings"), read("logits"), write("stats")],
        ..Variant::new("logit_stats", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl LogitStats {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Tokens);
        Dispatch {
            variant: variant(self.reduce),
            params: vec![Word::Extent(rows), Word::U32(self.columns as u32), Word::U32(self.top as u32)],
            bindings: vec![Slot::Input(Input::Readings), self.logits, self.stats],
            grid: Grid::new(rows, 1),
            work: Work { flops: 100.0 * self.columns as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
