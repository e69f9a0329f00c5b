//! Host half of `shaders/soft_cap.wgsl`: the cap of a language model's logits.

use super::{Kernel, ParamType::F32, ParamType::U32, Variant, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel =
    Kernel { name: "soft_cap", token_local: true, variants, params: &[("rows", U32), ("columns", U32), ("cap", F32)] };

/// One soft cap.
#[derive(Clone, Copy, Debug)]
pub struct SoftCap {
    /// f32 `[rows, columns]`.
    pub values: Slot,
    /// Rows.
    pub rows: Extent,
    /// Columns.
    pub columns: usize,
    /// No value stays above it.
    pub cap: f32,
}

fn variants() -> Vec<Variant> {
    vec![Variant { parts: vec!["tanh"], bindings: vec![write("values")], ..Variant::new("soft_cap", &[]) }]
}

impl SoftCap {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let count = Extent::new(self.rows.times * self.columns as u64, self.rows.dim);
        Dispatch {
            variant: variants().remove(0),
            params: vec![Word::Extent(self.rows), Word::U32(self.columns as u32), Word::F32(self.cap)],
            bindings: vec![self.values],
            grid: Grid::new(count, 256),
            work: Work { flops: 20.0 * count.times as f64, dim: count.dim },
            tilings: Vec::new(),
        }
    }
}
