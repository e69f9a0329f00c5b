//! Host half of `shaders/gate.wgsl`: gated activations (SwiGLU, GeGLU).

use super::activation::Activation;
use super::{Kernel, ParamType::U32, Variant, read, write};
use crate::schedule::{Dim, Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel =
    Kernel { name: "gate", token_local: true, variants, params: &[("rows", U32), ("columns", U32)] };

/// One gated activation.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Of the gate.
    pub activation: Activation,
    /// f32 `[tokens, 2, columns]`: gate, then up.
    pub gate_up: Slot,
    /// f32 `[tokens, columns]`.
    pub output: Slot,
    /// Width of the FFN.
    pub columns: usize,
}

fn variant(activation: Activation) -> Variant {
    Variant {
        parts: vec!["tanh", "activation"],
        constants: vec![("ACTIVATION", activation as u32)],
        bindings: vec![read("gate_up"), write("output")],
        ..Variant::new("gate", &[activation.tag()])
    }
}

fn variants() -> Vec<Variant> {
    Activation::ALL.map(variant).into()
}

impl Gate {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            variant: variant(self.activation),
            params: vec![Word::Extent(Extent::new(1, Dim::Tokens)), Word::U32(self.columns as u32)],
            bindings: vec![self.gate_up, self.output],
            grid: Grid::new(Extent::new(self.columns as u64, Dim::Tokens), 256),
            work: Work { flops: 20.0 * self.columns as f64, dim: Dim::Tokens },
            tilings: Vec::new(),
        }
    }
}
