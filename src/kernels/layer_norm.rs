//! Host half of `shaders/layer_norm.wgsl`: layer normalisation of the residual stream, in place or into
//! another buffer.

use super::{Kernel, ParamType, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "layer_norm",
    token_local: true,
    variants,
    params: &[("rows", ParamType::U32), ("columns", ParamType::U32), ("eps", ParamType::F32)],
};

/// One normalisation.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// How rows are summed.
    pub reduce: Reduce,
    /// γ, f32 `[columns]`.
    pub gamma: Slot,
    /// β, f32 `[columns]`.
    pub beta: Slot,
    /// d_model.
    pub columns: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Where the result goes.
    pub output: Output,
}

/// What a norm reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The residual stream becomes its own normalised form: post-norm blocks.
    InPlace,
    /// Rows of one buffer are normalised into another: pre-norm blocks.
    Into {
        /// f32 `[tokens, columns]`.
        rows: Slot,
        /// f32 `[tokens, columns]`.
        output: Slot,
    },
}

fn variant(reduce: Reduce, in_place: bool) -> Variant {
    let (part, tag, io) = if in_place {
        ("norm_inplace", "inplace", vec![write("stream")])
    } else {
        ("norm_into", "into", vec![read("rows"), write("output")])
    };
    let mut variant = Variant {
        parts: vec![part],
        constants: vec![("LANES", 64)],
        bindings: [vec![read("gamma"), read("beta")], io].concat(),
        ..Variant::new("layer_norm", &[reduce.tag(), tag])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().flat_map(|reduce| [true, false].map(|in_place| variant(reduce, in_place))).collect()
}

impl LayerNorm {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Tokens);
        let io = match self.output {
            Output::InPlace => vec![Slot::Stream],
            Output::Into { rows, output } => vec![rows, output],
        };
        Dispatch {
            variant: variant(self.reduce, self.output == Output::InPlace),
            params: vec![Word::Extent(rows), Word::U32(self.columns as u32), Word::F32(self.eps)],
            bindings: [vec![self.gamma, self.beta], io].concat(),
            grid: Grid::new(rows, 1),
            work: Work { flops: 20.0 * self.columns as f64, dim: Dim::Tokens },
        }
    }
}
