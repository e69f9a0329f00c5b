//! Host half of `shaders/sample.wgsl`: one token for each sequence.

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// What is chosen of a row without any number: no id, and an ordinary float in the eyes of who reads floats back.
pub const NO_TOKEN: u32 = 0x7f00_0000;

/// Inventory entry. Its rows are sequences: it mixes nothing between them.
pub const KERNEL: Kernel =
    Kernel { name: "sample", token_local: true, variants, params: &[("rows", U32), ("columns", U32)] };

/// One choice of tokens, by the batch's [`Draw`]s.
///
/// [`Draw`]: crate::schedule::Draw
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// f32 `[sequences, vocab_size]`. Penalties are written into it: what wants the model's logits reads them before.
    pub logits: Slot,
    /// Tokens to choose from.
    pub vocab_size: usize,
    /// u32 `[sequences]`.
    pub ids: Slot,
}

fn variant() -> Variant {
    Variant {
        bindings: vec![read("draws"), read("seen"), write("logits"), write("ids")],
        ..Variant::new("sample", &[])
    }
}

fn variants() -> Vec<Variant> {
    vec![variant()]
}

impl Sample {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Sequences);
        Dispatch {
            variant: variant(),
            params: vec![Word::Extent(rows), Word::U32(self.vocab_size as u32)],
            bindings: vec![Slot::Input(Input::Draws), Slot::Input(Input::Seen), self.logits, self.ids],
            grid: Grid::new(rows, 1),
            // ten passes and the noise
            work: Work { flops: 200.0 * self.vocab_size as f64, dim: Dim::Sequences },
            tilings: Vec::new(),
        }
    }
}
