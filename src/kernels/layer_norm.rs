//! Host half of `shaders/layer_norm.wgsl`: layer normalisation of the residual stream, in place or into
//! another buffer.

use super::{Kernel, Load, ParamType, Rows, Variant, read, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

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
    /// Who sums a row.
    pub sums: Rows,
    /// γ, f32 `[columns]`.
    pub gamma: Slot,
    /// β, f32 `[columns]`.
    pub beta: Option<Slot>,
    /// Rows.
    pub rows: Extent,
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

fn variant(sums: Rows, load: Load, in_place: bool, beta: bool) -> Variant {
    let (part, tag, io) = if in_place {
        ("norm_inplace", "inplace", vec![write("stream")])
    } else {
        ("norm_into", "into", vec![read("rows"), write("output")])
    };
    let mut variant = Variant {
        parts: vec![part, load.elements_part()],
        constants: vec![("HAS_BETA", beta.into())],
        bindings: [vec![read("gamma"), read("beta")], io].concat(),
        ..Variant::new("layer_norm", &[sums.tag(), load.tag(), tag, if beta { "beta" } else { "" }])
    };
    sums.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for sums in Rows::ALL {
        for load in Load::ALL {
            for in_place in [true, false] {
                all.extend([true, false].map(|beta| variant(sums, load, in_place, beta)));
            }
        }
    }
    all
}

impl LayerNorm {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let io = match self.output {
            Output::InPlace => vec![Slot::Stream],
            Output::Into { rows, output } => vec![rows, output],
        };
        let load = Load::choose(&[self.columns]);
        Dispatch {
            variant: variant(self.sums, load, self.output == Output::InPlace, self.beta.is_some()),
            params: vec![Word::Extent(self.rows), Word::U32(self.columns as u32), Word::F32(self.eps)],
            bindings: [vec![self.gamma, self.beta.unwrap_or(self.gamma)], io].concat(),
            grid: Grid::new(self.rows, self.sums.each().into()),
            work: Work { flops: 20.0 * self.columns as f64 * self.rows.times as f64, dim: self.rows.dim },
            tilings: Vec::new(),
        }
    }
}
