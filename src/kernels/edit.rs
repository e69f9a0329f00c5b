//! Host half of `shaders/edit.wgsl`: edits of rows in place, by what the batch says of each token.

use super::{Kernel, ParamType::U32, Reduce, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Input, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel {
    name: "edit",
    token_local: true,
    variants,
    params: &[("tokens", U32), ("stride", U32), ("part", U32), ("site", U32), ("sites", U32)],
};

/// The parameter that is known only when a recording is complete.
pub(crate) const SITES: usize = 4;

/// The edits of one point.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// How rows are summed, for what is projected out.
    pub reduce: Reduce,
    /// What is edited, f32, with a row for each token.
    pub values: Slot,
    /// Elements in a row.
    pub stride: Extent,
    /// Elements in a part of it.
    pub part: Extent,
    /// Which of the recording's sites it is.
    pub site: usize,
    /// How many there are.
    pub sites: usize,
}

fn variant(reduce: Reduce) -> Variant {
    let mut variant = Variant {
        constants: vec![("LANES", 64)],
        bindings: vec![read("edits"), read("changes"), read("vectors"), write("values")],
        ..Variant::new("edit", &[reduce.tag()])
    };
    reduce.apply(&mut variant);
    variant
}

fn variants() -> Vec<Variant> {
    Reduce::ALL.into_iter().map(variant).collect()
}

impl Edit {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let tokens = Extent::new(1, Dim::Tokens);
        Dispatch {
            variant: variant(self.reduce),
            params: vec![
                Word::Extent(tokens),
                Word::Extent(self.stride),
                Word::Extent(self.part),
                Word::U32(self.site as u32),
                Word::U32(self.sites as u32),
            ],
            bindings: vec![
                Slot::Input(Input::Edits),
                Slot::Input(Input::Changes),
                Slot::Input(Input::Vectors),
                self.values,
            ],
            grid: Grid::new(tokens, 1),
            work: Work { flops: 2.0 * self.part.times as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
