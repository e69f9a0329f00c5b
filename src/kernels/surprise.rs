//! Host half of `shaders/surprise.wgsl`: -log p of a token, of each row of logits.

use super::{Kernel, ParamType::U32, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel =
    Kernel { name: "surprise", token_local: true, variants, params: &[("rows", U32), ("columns", U32)] };

/// Surprises at the tokens of the batch's readings, in nats.
#[derive(Clone, Copy, Debug)]
pub struct Surprise {
    /// How rows are summed.
    pub reduce: Reduce,
    /// f32 `[tokens, columns]`.
    pub logits: Slot,
    /// Tokens of the vocabulary.
    pub columns: usize,
    /// f32 `[tokens]`; [`NOTHING`](super::logit_stats::NOTHING) of a row in which something is no number.
    pub surprises: Slot,
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        parts: vec!["logits"],
        constants: vec![("LANES", 64)],
        bindings: vec![read("readings"), read("logits"), write("surprises")],
        ..Variant::new("surprise", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl Surprise {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Tokens);
        Dispatch {
            variant: variant(self.reduce),
            params: vec![Word::Extent(rows), Word::U32(self.columns as u32)],
            bindings: vec![Slot::Input(Input::Readings), self.logits, self.surprises],
            grid: Grid::new(rows, 1),
            work: Work { flops: 16.0 * self.columns as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
