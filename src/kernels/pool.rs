//! Host half of `shaders/pool.wgsl`: one vector for each sequence.

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::files::Pooling;
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry. It reduces over tokens by definition, after the blocks.
pub const KERNEL: Kernel = Kernel {
    name: "pool",
    token_local: false,
    variants,
    params: &[("sequences", U32), ("columns", U32), ("out_columns", U32), ("out_first", U32)],
};

/// One mode of pooling.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Which.
    pub mode: Pooling,
    /// d_model.
    pub columns: usize,
    /// f32 `[sequences, out_columns]`.
    pub pooled: Slot,
    /// Columns of the output.
    pub out_columns: usize,
    /// Where this mode's columns begin.
    pub out_first: usize,
}

fn variant(mode: Pooling) -> Variant {
    Variant {
        // the shader counts the modes in the order of the enum
        constants: vec![("MODE", mode as u32)],
        bindings: vec![read("sequences"), read("stream"), write("pooled")],
        ..Variant::new("pool", &[mode.name()])
    }
}

fn variants() -> Vec<Variant> {
    Pooling::ALL.into_iter().map(|(mode, ..)| variant(mode)).collect()
}

impl Pool {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            variant: variant(self.mode),
            params: vec![
                Word::Extent(Extent::new(1, Dim::Sequences)),
                Word::U32(self.columns as u32),
                Word::U32(self.out_columns as u32),
                Word::U32(self.out_first as u32),
            ],
            bindings: vec![Slot::Input(Input::Sequences), Slot::Stream, self.pooled],
            grid: Grid::new(Extent::new(self.columns as u64, Dim::Sequences), 64),
            work: Work { flops: 4.0 * self.columns as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
