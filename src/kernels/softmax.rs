//! Host half of `shaders/softmax.wgsl`: softmax over rows, in place.

use super::{Kernel, ParamType::U32, Reduce, Variant, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry. Its rows are whatever the caller says: it mixes nothing between them.
pub const KERNEL: Kernel =
    Kernel { name: "softmax", token_local: true, variants, params: &[("rows", U32), ("columns", U32)] };

/// One softmax.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// How rows are summed.
    pub reduce: Reduce,
    /// f32 `[rows, columns]`.
    pub values: Slot,
    /// Rows.
    pub rows: Extent,
    /// Columns.
    pub columns: Extent,
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        constants: vec![("LANES", 64)],
        bindings: vec![write("values")],
        ..Variant::new("softmax", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl Softmax {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            variant: variant(self.reduce),
            params: vec![Word::Extent(self.rows), Word::Extent(self.columns)],
            bindings: vec![self.values],
            grid: Grid::new(self.rows, 1),
            work: Work { flops: 1e4 * self.rows.times as f64, dim: self.rows.dim },
            tilings: Vec::new(),
        }
    }
}
