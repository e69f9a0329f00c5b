//! Host half of `shaders/layer_norm.wgsl`: layer normalisation of the residual stream in place.

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
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        constants: vec![("LANES", 64)],
        bindings: vec![read("gamma"), read("beta"), write("stream")],
        ..Variant::new("layer_norm", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl LayerNorm {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Tokens);
        Dispatch {
            variant: variant(self.reduce),
            params: vec![Word::Extent(rows), Word::U32(self.columns as u32), Word::F32(self.eps)],
            bindings: vec![self.gamma, self.beta, Slot::Stream],
            grid: Grid::new(rows, 1),
            work: Work { flops: 20.0 * self.columns as f64, dim: Dim::Tokens },
        }
    }
}
