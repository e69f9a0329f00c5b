//! Host half of `shaders/matmul.wgsl`: the product with a stored weight, with bias, activation and the addition into
//! the residual stream in its epilogue.

pub use super::activation::Activation;
use super::product::{Epilogue, Loads, PARAMS, product_variant, product_variants};
pub use super::product::{Output, Product};
use super::{COOPERATION, HANDED, Kernel, Load, Needs, Variant, WIDE, WeightType};
use crate::gpu::{AdapterClass, Capabilities};
use crate::schedule::{Dim, Dispatch, Extent, Tiling};

/// Inventory entry.
pub const KERNEL: Kernel = Kernel { name: "matmul", token_local: true, variants, params: PARAMS };

/// How the product is tiled. All forms but those of cooperative matrices sum in the same order and agree bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 8 × 32 outputs a workgroup, in registers: for drivers that run on the CPU.
    Register,
    /// 16 × 32 outputs a workgroup, in registers, rows handed around in subgroups: for such drivers that have these.
    Subgroup,
    /// 16 × 32 outputs a workgroup, likewise, loaded as words of 64 bits: for such drivers that have these too.
    Wide,
    /// 32 × 32 outputs a workgroup, likewise: for such drivers and many rows.
    Tall,
    /// 64 × 64 outputs a workgroup, through workgroup memory: for GPUs.
    Workgroup,
    /// 128 × 128 outputs a workgroup, likewise: for GPUs and large products.
    Large,
    /// 16 × 32 outputs a workgroup, likewise: for GPUs and few rows.
    Skinny,
    /// 64 × 64 outputs a workgroup, by cooperative matrices of 8 × 8: for GPUs that have them. Rows and weights are rounded
    /// to f16, so that weights of f32 take [`Form::Workgroup`], and so do rows that are read as scalars.
    Cooperative8,
    /// The same by matrices of 16 × 16.
    Cooperative16,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 9] = [
        Form::Register,
        Form::Subgroup,
        Form::Wide,
        Form::Tall,
        Form::Workgroup,
        Form::Large,
        Form::Skinny,
        Form::Cooperative8,
        Form::Cooperative16,
    ];

    /// Those that run on an adapter.
    pub fn on(capabilities: &Capabilities) -> impl Iterator<Item = Form> {
        Self::ALL.into_iter().filter(|form| capabilities.offers(form.needs()))
    }

    /// Those that run on an adapter for batches of any size: not the tiles that [`MatMul::fitted`] takes by itself for some.
    pub fn choices(capabilities: &Capabilities) -> impl Iterator<Item = Form> {
        Self::on(capabilities).filter(|form| !matches!(form, Form::Tall | Form::Large | Form::Skinny))
    }

    /// The default of an adapter.
    pub fn choose(capabilities: &Capabilities) -> Self {
        let cooperative = [Form::Cooperative16, Form::Cooperative8];
        match capabilities.class {
            AdapterClass::Cpu if capabilities.offers(WIDE) => Form::Wide,
            AdapterClass::Cpu if capabilities.offers(HANDED) => Form::Subgroup,
            AdapterClass::Cpu => Form::Register,
            AdapterClass::Integrated | AdapterClass::Discrete => {
                cooperative.into_iter().find(|form| capabilities.offers(form.needs())).unwrap_or(Form::Workgroup)
            }
        }
    }

    /// Whether it multiplies cooperative matrices, in an order of its own.
    pub fn cooperates(self) -> bool {
        self.needs().matrix > 0
    }

    /// The form that a product with such a weight and such rows takes where this one is chosen.
    fn of(self, weight: WeightType, load: Load) -> Self {
        match self {
            Form::Register | Form::Subgroup | Form::Workgroup => self,
            Form::Wide | Form::Tall if load == Load::Vec4 => self,
            Form::Wide | Form::Tall => Form::Subgroup,
            Form::Large | Form::Skinny if load == Load::Vec4 => self,
            Form::Cooperative8 | Form::Cooperative16 if load == Load::Vec4 && weight != WeightType::F32 => self,
            _ => Form::Workgroup,
        }
    }

    /// What the labels of its variants begin with, in brackets.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Register => "register",
            Form::Subgroup => "subgroup",
            Form::Wide => "wide",
            Form::Tall => "tall",
            Form::Workgroup => "workgroup",
            Form::Large => "large",
            Form::Skinny => "skinny",
            Form::Cooperative8 => "cooperative8",
            Form::Cooperative16 => "cooperative16",
        }
    }

    /// Another form of the same order, where the adapter has one.
    pub(crate) fn other(self, capabilities: &Capabilities) -> Self {
        Self::on(capabilities).find(|form| *form != self && form.cooperates() == self.cooperates()).unwrap_or(self)
    }

    /// What the device must have.
    pub(crate) fn needs(self) -> Needs {
        match self {
            Form::Register | Form::Workgroup | Form::Large | Form::Skinny => Needs::NOTHING,
            Form::Subgroup => HANDED,
            Form::Wide | Form::Tall => WIDE,
            Form::Cooperative8 => Needs { features: COOPERATION, subgroup: 0, matrix: 8 },
            Form::Cooperative16 => Needs { features: COOPERATION, subgroup: 0, matrix: 16 },
        }
    }

    /// Rows and columns of the output that a workgroup computes.
    fn tile(self) -> (u64, u64) {
        match self {
            Form::Register => (8, 32),
            Form::Subgroup | Form::Wide => (16, 32),
            Form::Tall => (32, 32),
            Form::Workgroup | Form::Cooperative8 | Form::Cooperative16 => (64, 64),
            Form::Large => (128, 128),
            Form::Skinny => (16, 32),
        }
    }
}

/// Rows up to which a workgroup of 64 would mostly compute nothing.
const FEW: u64 = 16;

/// Workgroups of 128 × 128 from which on they keep a GPU busy. Not measured.
const ENOUGH: u64 = 128;

/// Workgroups of 32 × 32 from which on they keep a CPU of many cores busy. Not measured.
const BUSY: u64 = 48;

/// Rows from which on a tile of 32 is faster than one of 16, however many of them it wastes. Measured.
const MANY: u64 = 81;

fn variant(form: Form, weight: WeightType, load: Load, epilogue: Epilogue) -> Variant {
    let part = match form {
        Form::Register => "matmul_register",
        Form::Subgroup | Form::Wide => "matmul_subgroup",
        Form::Tall => "matmul_tall",
        Form::Workgroup => "matmul_workgroup",
        Form::Large => "matmul_large",
        Form::Skinny => "matmul_skinny",
        Form::Cooperative8 => "matmul_cooperative8",
        Form::Cooperative16 => "matmul_cooperative16",
    };
    let loads = Loads::of(form.needs() == WIDE, weight, load);
    let mut variant = product_variant("matmul", (part, form.name()), loads, epilogue);
    if form.cooperates() {
        variant.parts.extend(["powers", "matmul_cooperative"]);
        variant.constants.push(("WEIGHT_SCALED", (weight != WeightType::F16).into()));
    }
    if matches!(form, Form::Subgroup | Form::Wide | Form::Tall) {
        variant.parts.push("sums16");
    }
    Variant { needs: form.needs(), ..variant }
}

fn variants() -> Vec<Variant> {
    let mut all = product_variants(&Form::ALL, |form, weight, load| form.of(weight, load) == form, variant);
    for weight in WeightType::ALL {
        all.extend(weight.loads().iter().map(|&load| plainest(weight, load)));
    }
    all
}

/// The plainest kernel: what checks compare large outputs with. No model runs it.
fn plainest(weight: WeightType, load: Load) -> Variant {
    product_variant("matmul", ("matmul_plain", "plain"), Loads::of(false, weight, load), Epilogue::NONE)
}

/// One product.
#[derive(Clone, Copy, Debug)]
pub struct MatMul {
    /// How it is tiled.
    pub form: Form,
    /// Of what.
    pub product: Product,
}

impl MatMul {
    /// The form that it takes.
    fn form(&self) -> Form {
        self.form.of(self.product.weight_type, self.product.load())
    }

    /// The dispatch.
    pub fn dispatch(&self) -> Dispatch {
        let (form, product) = (self.form(), &self.product);
        product.dispatch(variant(form, product.weight_type, product.load(), product.epilogue()), form.tile())
    }

    /// The same dispatch; that of [`Form::Workgroup`] with the tiles of 16 × 32 and 128 × 128 for batches of few rows and of
    /// many, that of [`Form::Wide`] with the tile of 32 × 32 for many.
    pub fn fitted(&self) -> Dispatch {
        let own = self.dispatch();
        let tiling = |form, sizes| {
            let Dispatch { variant, grid, .. } = MatMul { form, ..*self }.dispatch();
            Tiling { sizes, variant, grid }
        };
        // a larger tile, from so many of them and of rows on
        let larger = |form: Form, enough: u64, least: u64| {
            let (tall, wide) = form.tile();
            let high = enough.div_ceil((self.product.columns as u64).div_ceil(wide));
            tiling(form, least.max(tall * (high - 1) + 1)..=u64::MAX)
        };
        let tilings = match (self.form(), self.product.load()) {
            (Form::Workgroup, Load::Vec4) => vec![tiling(Form::Skinny, 1..=FEW), larger(Form::Large, ENOUGH, 1)],
            (Form::Wide, Load::Vec4) => vec![larger(Form::Tall, BUSY, MANY)],
            _ => Vec::new(),
        };
        Dispatch { tilings, ..own }
    }

    /// The same product by the plainest kernel, an invocation for each output, without bias and activation.
    pub(crate) fn plainest(&self) -> Dispatch {
        let plain = Product { bias: None, activation: Activation::None, ..self.product };
        plain.dispatch(plainest(plain.weight_type, plain.load()), (1, 64))
    }

    /// Rows that are one for each token.
    pub const TOKENS: Extent = Extent::new(1, Dim::Tokens);
    /// Rows that are one for each sequence.
    pub const SEQUENCES: Extent = Extent::new(1, Dim::Sequences);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Dims, Slot};

    fn labels(form: Form, weight_type: WeightType, depth: usize, columns: usize) -> Vec<(u32, String, u64)> {
        let product = Product {
            weight_type,
            input: Slot::Scratch(0),
            rows: MatMul::TOKENS,
            weight: Slot::Weight(0),
            columns,
            depth,
            bias: None,
            activation: Activation::None,
            output: Output::Store(Slot::Scratch(1)),
            out_columns: columns,
            out_first: 0,
        };
        let dispatch = MatMul { form, product }.fitted();
        let batch = |tokens| {
            let dims = Dims { tokens, ..Dims::default() };
            let (variant, grid) = dispatch.fitted(&dims);
            (tokens, variant.label.split(',').next().unwrap_or_default().to_string(), grid.count(&dims))
        };
        [1, 16, 17, 896, 897, 2048].map(batch).to_vec()
    }

    /// 2,048 columns are 16 large tiles, of which 8 rows make enough.
    #[test]
    fn tiles_fit_the_batch() {
        let fitted = labels(Form::Workgroup, WeightType::F16, 64, 2048);
        let expected = [
            (1, "matmul[skinny", 64),
            (16, "matmul[skinny", 64),
            (17, "matmul[workgroup", 32),
            (896, "matmul[workgroup", 14 * 32),
            (897, "matmul[large", 8 * 16),
            (2048, "matmul[large", 16 * 16),
        ];
        let own = |&(tokens, label, groups): &(u32, &str, u64)| (tokens, label.to_string(), groups);
        assert_eq!(fitted, expected.iter().map(own).collect::<Vec<_>>());
        let fitted = labels(Form::Wide, WeightType::F16, 64, 2048);
        let few = [1, 16, 17].map(|tokens: u32| (tokens, "matmul[wide", u64::from(tokens.div_ceil(16)) * 64));
        let many = [896, 897, 2048].map(|tokens: u32| (tokens, "matmul[tall", u64::from(tokens.div_ceil(32)) * 64));
        assert_eq!(fitted, [few, many].concat().iter().map(own).collect::<Vec<_>>());
        // one tile across: 48 of them are more than 896 rows
        let forms: Vec<_> =
            labels(Form::Wide, WeightType::F16, 64, 32).into_iter().map(|(_, label, _)| label).collect();
        assert_eq!(forms, [["matmul[wide"; 5].as_slice(), &["matmul[tall"]].concat());
        // what sums in another order, or is chosen for another kind of adapter, or cannot be read so, is left as it is
        for (form, depth, own) in [
            (Form::Subgroup, 64, "matmul[subgroup"),
            (Form::Wide, 63, "matmul[subgroup"),
            (Form::Tall, 64, "matmul[tall"),
            (Form::Cooperative16, 64, "matmul[cooperative16"),
            (Form::Large, 64, "matmul[large"),
            (Form::Workgroup, 63, "matmul[workgroup"),
        ] {
            assert!(labels(form, WeightType::F16, depth, 2048).iter().all(|(_, label, _)| label == own), "{own}");
        }
        let f32s = labels(Form::Cooperative16, WeightType::F32, 64, 2048);
        assert!(f32s.iter().any(|(_, label, _)| label == "matmul[large"), "{f32s:?}");
    }
}
