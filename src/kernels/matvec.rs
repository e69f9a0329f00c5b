//! Host half of `shaders/matvec.wgsl`: the product of a decode step, of few rows with a stored weight. It takes what
//! `matmul` takes; a row's bits are the same whatever the other rows are, and however many.

use super::matmul::{self, Activation, End, Loads, Output, product_variant, product_variants};
use super::{Kernel, Load, Needs, Variant, WeightType, padded};
use crate::gpu::{AdapterClass, Capabilities};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel { name: "matvec", variants, ..matmul::KERNEL };

/// What [`Form::Wide`] needs: words of 64 bits.
const LONG: Needs = Needs { features: wgpu::Features::SHADER_INT64, subgroup: 0, matrix: 0 };

/// How the product is summed: each form has an order of its own, so that a model keeps to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An invocation sums 4 columns, without workgroup memory: for drivers that run on the CPU.
    Columns,
    /// Likewise, loaded as words of 64 bits: for such drivers that have these. The bits of [`Form::Columns`], which
    /// products take whose rows are read as scalars.
    Wide,
    /// A workgroup sums 4 columns, its invocations along the depth: for GPUs.
    Depth,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 3] = [Form::Columns, Form::Wide, Form::Depth];

    /// The default of an adapter.
    pub fn choose(capabilities: &Capabilities) -> Self {
        match capabilities.class {
            AdapterClass::Cpu if capabilities.offers(LONG) => Form::Wide,
            AdapterClass::Cpu => Form::Columns,
            AdapterClass::Integrated | AdapterClass::Discrete => Form::Depth,
        }
    }

    /// The form that a product with such rows takes where this one is chosen.
    fn of(self, load: Load) -> Self {
        match (self, load) {
            (Form::Wide, Load::Scalar) => Form::Columns,
            _ => self,
        }
    }

    /// What the labels of its variants begin with, in brackets.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Columns => "columns",
            Form::Wide => "wide",
            Form::Depth => "depth",
        }
    }

    /// What the device must have.
    fn needs(self) -> Needs {
        if self == Form::Wide { LONG } else { Needs::NOTHING }
    }

    /// Rows and columns of the output that a workgroup computes.
    fn tile(self) -> (u64, u64) {
        match self {
            Form::Columns | Form::Wide => (4, 32),
            Form::Depth => (4, 4),
        }
    }
}

/// One product with one chunk of a weight, as [`MatMul`](super::matmul::MatMul) has it.
#[derive(Clone, Copy, Debug)]
pub struct MatVec {
    /// How it is summed.
    pub form: Form,
    /// How the weight is stored.
    pub weight_type: WeightType,
    /// f32 `[rows, depth]`.
    pub input: Slot,
    /// Rows (M).
    pub rows: Extent,
    /// The chunk of the weight, `[columns, stride(depth)]`.
    pub weight: Slot,
    /// Rows of the chunk, which are columns of the output (N).
    pub columns: usize,
    /// Columns of the weight (K).
    pub depth: usize,
    /// f32 `[columns]`, of the chunk.
    pub bias: Option<Slot>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Where the product goes.
    pub output: Output,
    /// Columns of the whole output.
    pub out_columns: usize,
    /// The chunk's first column in the output.
    pub out_first: usize,
}

fn variant(form: Form, weight: WeightType, load: Load, bias: bool, activation: Activation, end: End) -> Variant {
    let part = match form {
        Form::Columns | Form::Wide => "matvec_columns",
        Form::Depth => "matvec_depth",
    };
    let loads = Loads::of(form == Form::Wide, weight, load);
    Variant { needs: form.needs(), ..product_variant("matvec", (part, form.name()), loads, bias, activation, end) }
}

fn variants() -> Vec<Variant> {
    product_variants(&Form::ALL, |form, _, load| form.of(load) == form, variant)
}

impl MatVec {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let (output, end) = self.output.slot();
        let load = Load::choose(&[self.depth]);
        let form = self.form.of(load);
        let (tall, wide) = form.tile();
        Dispatch {
            variant: variant(form, self.weight_type, load, self.bias.is_some(), self.activation, end),
            params: vec![
                Word::Extent(self.rows),
                Word::U32(self.columns as u32),
                Word::U32(self.depth as u32),
                Word::U32((padded(self.depth) / 4) as u32),
                Word::U32((self.weight_type.stride(self.depth) / 4) as u32),
                Word::U32(self.out_columns as u32),
                Word::U32(self.out_first as u32),
            ],
            bindings: vec![self.input, self.weight, self.bias.unwrap_or(self.weight), output],
            grid: Grid { times: (self.columns as u64).div_ceil(wide), ..Grid::new(self.rows, tall) },
            work: Work {
                flops: 2.0 * self.rows.times as f64 * self.columns as f64 * self.depth as f64,
                dim: self.rows.dim,
            },
            tilings: Vec::new(),
        }
    }
}
