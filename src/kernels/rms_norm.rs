//! Host half of `shaders/rms_norm.wgsl`: RMS normalisation into another buffer.

use super::{Kernel, ParamType, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "rms_norm",
    token_local: true,
    variants,
    params: &[("rows", ParamType::U32), ("columns", ParamType::U32), ("eps", ParamType::F32)],
};

/// One normalisation.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// How rows are summed.
    pub reduce: Reduce,
    /// γ, f32 `[columns]`.
    pub gamma: Slot,
    /// Whether γ is stored less 1 (Gemma).
    pub add_one: bool,
    /// f32 `[tokens, columns]`.
    pub rows: Slot,
    /// f32 `[tokens, columns]`.
    pub output: Slot,
    /// d_model.
    pub columns: usize,
    /// Added to the mean of the squares.
    pub eps: f32,
}

fn variant(reduce: Reduce, add_one: bool) -> Variant {
    let mut variant = Variant {
        constants: vec![("LANES", 64), ("ADD_ONE", add_one.into())],
        bindings: vec![read("gamma"), read("rows"), write("output")],
        ..Variant::new("rms_norm", &[reduce.tag(), if add_one { "add_one" } else { "" }])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().flat_map(|reduce| [false, true].map(|add_one| variant(reduce, add_one))).collect()
}

impl RmsNorm {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Tokens);
        Dispatch {
            variant: variant(self.reduce, self.add_one),
            params: vec![Word::Extent(rows), Word::U32(self.columns as u32), Word::F32(self.eps)],
            bindings: vec![self.gamma, self.rows, self.output],
            grid: Grid::new(rows, 1),
            work: Work { flops: 10.0 * self.columns as f64, dim: Dim::Tokens },
        }
    }
}
