//! Host half of `shaders/pool.wgsl`: one vector for each sequence.

use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry. It reduces over tokens by definition, after the blocks.
pub const KERNEL: Kernel = Kernel {
    name: "pool",
    token_local: false,
    variants,
    params: &[("sequences", U32), ("columns", U32), ("out_columns", U32), ("out_first", U32)],
};

/// sentence-transformers' pooling modes; the numbers are the shader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The first token.
    Cls = 0,
    /// The largest value of each column.
    Max = 1,
    /// The average.
    Mean = 2,
    /// The sum divided by the square root of the length.
    MeanSqrtLen = 3,
    /// The average weighted by position: 1, 2, 3 …
    WeightedMean = 4,
    /// The last token.
    LastToken = 5,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 6] =
        [Mode::Cls, Mode::Max, Mode::Mean, Mode::MeanSqrtLen, Mode::WeightedMean, Mode::LastToken];

    fn tag(self) -> &'static str {
        match self {
            Mode::Cls => "cls",
            Mode::Max => "max",
            Mode::Mean => "mean",
            Mode::MeanSqrtLen => "mean_sqrt_len",
            Mode::WeightedMean => "weightedmean",
            Mode::LastToken => "lasttoken",
        }
    }
}

/// One mode of pooling.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Which.
    pub mode: Mode,
    /// d_model.
    pub columns: usize,
    /// f32 [sequences, out_columns].
    pub pooled: Slot,
    /// Columns of the output.
    pub out_columns: usize,
    /// Where this mode's columns begin.
    pub out_first: usize,
}

fn variant(mode: Mode) -> Variant {
    Variant {
        constants: vec![("MODE", mode as u32)],
        bindings: vec![read("sequences"), read("stream"), write("pooled")],
        ..Variant::new("pool", &[mode.tag()])
    }
}

fn variants() -> Vec<Variant> {
    Mode::ALL.into_iter().map(variant).collect()
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
        }
    }
}
