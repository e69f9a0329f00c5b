//! Host half of `shaders/l2_normalize.wgsl`: rows are scaled to length 1, in place.

use super::{Kernel, ParamType::U32, Reduce, Variant, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel =
    Kernel { name: "l2_normalize", token_local: true, variants, params: &[("rows", U32), ("columns", U32)] };

/// Normalises one row for each sequence.
#[derive(Clone, Copy, Debug)]
pub struct L2Normalize {
    /// How rows are summed.
    pub reduce: Reduce,
    /// f32 `[sequences, columns]`.
    pub values: Slot,
    /// Columns.
    pub columns: usize,
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        constants: vec![("LANES", 64)],
        bindings: vec![write("values")],
        ..Variant::new("l2_normalize", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl L2Normalize {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let rows = Extent::new(1, Dim::Sequences);
        Dispatch {
            variant: variant(self.reduce),
            params: vec![Word::Extent(rows), Word::U32(self.columns as u32)],
            bindings: vec![self.values],
            grid: Grid::new(rows, 1),
            work: Work { flops: 10.0 * self.columns as f64, dim: Dim::Sequences },
            tilings: Vec::new(),
        }
    }
}
