//! Host half of `shaders/rms_norm.wgsl`: RMS normalisation of rows, or of the heads that stand in them.

use super::{Kernel, Load, ParamType, Rows, Variant, read, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "rms_norm",
    token_local: true,
    variants,
    params: &[
        ("rows", ParamType::U32),
        ("columns", ParamType::U32),
        ("heads", ParamType::U32),
        ("stride", ParamType::U32),
        ("first", ParamType::U32),
        ("eps", ParamType::F32),
    ],
};

/// One normalisation.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// Who sums a row, or a head of it.
    pub sums: Rows,
    /// γ, f32 `[columns]`.
    pub gamma: Slot,
    /// Whether γ is stored less 1 (Gemma).
    pub add_one: bool,
    /// f32 `[rows, stride]`.
    pub input: Slot,
    /// Like the input; the input itself where it is normalised in place.
    pub output: Slot,
    /// Rows.
    pub rows: Extent,
    /// What is normalised together.
    pub columns: usize,
    /// How many of those stand one behind another in a row.
    pub heads: usize,
    /// Elements in a row.
    pub stride: usize,
    /// Column at which the first head begins.
    pub first: usize,
    /// Added to the mean of the squares.
    pub eps: f32,
}

fn variant(sums: Rows, load: Load, in_place: bool, add_one: bool) -> Variant {
    let (part, tag, io) = if in_place {
        ("rms_inplace", "inplace", vec![write("rows")])
    } else {
        ("rms_into", "into", vec![read("rows"), write("output")])
    };
    let mut variant = Variant {
        parts: vec![part, load.elements_part()],
        constants: vec![("ADD_ONE", add_one.into())],
        bindings: [vec![read("gamma")], io].concat(),
        ..Variant::new("rms_norm", &[sums.tag(), load.tag(), tag, if add_one { "add_one" } else { "" }])
    };
    sums.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for sums in Rows::ALL {
        for load in Load::ALL {
            for in_place in [false, true] {
                all.extend([false, true].map(|add_one| variant(sums, load, in_place, add_one)));
            }
        }
    }
    all
}

impl RmsNorm {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let in_place = self.input == self.output;
        let rows = Extent::new(self.rows.times * self.heads as u64, self.rows.dim);
        let io = if in_place { vec![self.input] } else { vec![self.input, self.output] };
        let load = Load::choose(&[self.columns, self.stride, self.first]);
        Dispatch {
            variant: variant(self.sums, load, in_place, self.add_one),
            params: vec![
                Word::Extent(rows),
                Word::U32(self.columns as u32),
                Word::U32(self.heads as u32),
                Word::U32(self.stride as u32),
                Word::U32(self.first as u32),
                Word::F32(self.eps),
            ],
            bindings: [vec![self.gamma], io].concat(),
            grid: Grid::new(rows, self.sums.each().into()),
            work: Work { flops: 10.0 * self.columns as f64 * rows.times as f64, dim: rows.dim },
            tilings: Vec::new(),
        }
    }
}
