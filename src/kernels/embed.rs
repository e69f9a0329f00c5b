//! Host half of `shaders/embed.wgsl`: the embedding sum that begins the residual stream.

use super::{Kernel, ParamType::F32, ParamType::U32, Variant, WeightType, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "embed",
    token_local: true,
    variants,
    params: &[("tokens", U32), ("columns", U32), ("stride4", U32), ("first_row", U32), ("rows", U32), ("scale", F32)],
};

/// One dispatch: the tokens whose ids lie in one chunk of the word table.
#[derive(Clone, Copy, Debug)]
pub struct Embed {
    /// How the word table is stored.
    pub weight: WeightType,
    /// The chunk of the word table, `[rows, stride(columns)]`.
    pub words: Slot,
    /// First row of the chunk.
    pub first_row: usize,
    /// Rows in the chunk.
    pub rows: usize,
    /// d_model.
    pub columns: usize,
    /// Learned positions, f32 `[positions, columns]`.
    pub positions: Option<Slot>,
    /// Token types, f32 `[types, columns]`.
    pub types: Option<Slot>,
    /// Words are multiplied by this.
    pub scale: f32,
}

fn variant(weight: WeightType, positions: bool, types: bool) -> Variant {
    let tags = [weight.name(), if positions { "positions" } else { "" }, if types { "types" } else { "" }];
    Variant {
        parts: weight.parts().to_vec(),
        constants: vec![("HAS_POSITIONS", positions.into()), ("HAS_TYPES", types.into())],
        bindings: vec![read("tokens"), read("weight"), read("positions"), read("types"), write("stream")],
        ..Variant::new("embed", &tags)
    }
}

fn variants() -> Vec<Variant> {
    WeightType::ALL
        .into_iter()
        .flat_map(|w| [(false, false), (true, false), (true, true)].map(|(p, t)| variant(w, p, t)))
        .collect()
}

impl Embed {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let quads = self.columns.div_ceil(4) as u64;
        Dispatch {
            variant: variant(self.weight, self.positions.is_some(), self.types.is_some()),
            params: vec![
                Word::Extent(Extent::new(1, Dim::Tokens)),
                Word::U32(self.columns as u32),
                Word::U32((self.weight.stride(self.columns) / 4) as u32),
                Word::U32(self.first_row as u32),
                Word::U32(self.rows as u32),
                Word::F32(self.scale),
            ],
            // an absent table is never read; the word table stands in for it
            bindings: vec![
                Slot::Input(Input::Tokens),
                self.words,
                self.positions.unwrap_or(self.words),
                self.types.unwrap_or(self.words),
                Slot::Stream,
            ],
            grid: Grid::new(Extent::new(quads, Dim::Tokens), 64),
            work: Work { flops: 4.0 * self.columns as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
