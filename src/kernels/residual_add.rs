//! Host half of `shaders/residual_add.wgsl`: a term is added into the residual stream.

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel =
    Kernel { name: "residual_add", token_local: true, variants, params: &[("rows", U32), ("columns", U32)] };

/// One addition.
#[derive(Clone, Copy, Debug)]
pub struct ResidualAdd {
    /// f32 `[tokens, columns]`.
    pub term: Slot,
    /// d_model.
    pub columns: usize,
}

fn variants() -> Vec<Variant> {
    vec![Variant { bindings: vec![read("term"), write("stream")], ..Variant::new("residual_add", &[]) }]
}

impl ResidualAdd {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            variant: variants().remove(0),
            params: vec![Word::Extent(Extent::new(1, Dim::Tokens)), Word::U32(self.columns as u32)],
            bindings: vec![self.term, Slot::Stream],
            grid: Grid::new(Extent::new(self.columns as u64, Dim::Tokens), 256),
            work: Work { flops: 4.0 * self.columns as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
