//! Host half of `shaders/matvec.wgsl`: the product of a decode step, of few rows with a stored weight. It takes what
//! `matmul` takes; a row's bits are the same whatever the other rows are, and however many.

use super::matmul;
use super::product::{Epilogue, Loads, Product, product_variant, product_variants};
use super::{Kernel, Load, Needs, Variant, WeightType};
use crate::gpu::{AdapterClass, Capabilities};
use crate::schedule::Dispatch;

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

/// One product, of few rows.
#[derive(Clone, Copy, Debug)]
pub struct MatVec {
    /// How it is summed.
    pub form: Form,
    /// Of what.
    pub product: Product,
}

fn variant(form: Form, weight: WeightType, load: Load, epilogue: Epilogue) -> Variant {
    let part = match form {
        Form::Columns | Form::Wide => "matvec_columns",
        Form::Depth => "matvec_depth",
    };
    let loads = Loads::of(form == Form::Wide, weight, load);
    Variant { needs: form.needs(), ..product_variant("matvec", (part, form.name()), loads, epilogue) }
}

fn variants() -> Vec<Variant> {
    product_variants(&Form::ALL, |form, _, load| form.of(load) == form, variant)
}

impl MatVec {
    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let product = &self.product;
        let form = self.form.of(product.load());
        product.dispatch(variant(form, product.weight_type, product.load(), product.epilogue()), form.tile())
    }
}
