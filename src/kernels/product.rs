//! What `matmul` and `matvec` have in common: a product with one chunk of a stored weight, its parameters and bindings, and
//! what becomes of its sums.

use super::activation::Activation;
use super::{Load, ParamType, ParamType::U32, Variant, WeightType, padded, read, write};
use crate::schedule::{Dispatch, Extent, Grid, Slot, Word, Work};

/// One product with one chunk of a weight.
#[derive(Clone, Copy, Debug)]
pub struct Product {
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

/// Where the product goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Written to a buffer.
    Store(Slot),
    /// Added into the residual stream.
    AddToStream,
    /// Columns are gates and, in the second half, what they let through: activation(gate) · other is written to a buffer of
    /// half as many columns. Without bias, and the weight is one chunk.
    Gate(Slot),
}

impl Output {
    /// Where it goes, and how.
    pub(super) fn slot(self) -> (Slot, End) {
        match self {
            Output::Store(slot) => (slot, End::Store),
            Output::AddToStream => (Slot::Stream, End::Add),
            Output::Gate(slot) => (slot, End::Gate),
        }
    }
}

/// [`Output`], wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Store,
    Add,
    Gate,
}

impl End {
    /// What labels end with.
    fn tag(self) -> &'static str {
        match self {
            End::Store => "",
            End::Add => "add",
            End::Gate => "gate",
        }
    }
}

/// Parameters of either kernel.
pub(super) const PARAMS: &[(&str, ParamType)] = &[
    ("rows", U32),
    ("columns", U32),
    ("depth", U32),
    ("depth4", U32),
    ("stride4", U32),
    ("out_columns", U32),
    ("out_first", U32),
];

impl Product {
    /// How its rows can be read.
    pub(super) fn load(&self) -> Load {
        Load::choose(&[self.depth])
    }

    /// What follows its sums.
    pub(super) fn epilogue(&self) -> Epilogue {
        Epilogue { bias: self.bias.is_some(), activation: self.activation, end: self.output.slot().1 }
    }

    /// Its dispatch by a variant whose workgroups compute so many rows and columns.
    pub(super) fn dispatch(&self, variant: Variant, (tall, wide): (u64, u64)) -> Dispatch {
        Dispatch {
            variant,
            params: vec![
                Word::Extent(self.rows),
                Word::U32(self.columns as u32),
                Word::U32(self.depth as u32),
                Word::U32((padded(self.depth) / 4) as u32),
                Word::U32((self.weight_type.stride(self.depth) / 4) as u32),
                Word::U32(self.out_columns as u32),
                Word::U32(self.out_first as u32),
            ],
            bindings: vec![self.input, self.weight, self.bias.unwrap_or(self.weight), self.output.slot().0],
            grid: Grid { times: (self.columns as u64).div_ceil(wide), ..Grid::new(self.rows, tall) },
            work: Work {
                flops: 2.0 * self.rows.times as f64 * self.columns as f64 * self.depth as f64,
                dim: self.rows.dim,
            },
            tilings: Vec::new(),
        }
    }
}

/// What becomes of sums.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    pub bias: bool,
    pub activation: Activation,
    pub end: End,
}

impl Epilogue {
    /// Sums are stored as they are.
    pub const NONE: Epilogue = Epilogue { bias: false, activation: Activation::None, end: End::Store };

    /// Those that products with such weights have.
    fn all(weight: WeightType) -> Vec<Epilogue> {
        let mut all = Vec::new();
        for bias in [false, true] {
            all.push(Epilogue { bias, end: End::Add, ..Epilogue::NONE });
            all.extend(weight.activations(bias).iter().map(|&a| Epilogue { bias, activation: a, ..Epilogue::NONE }));
        }
        all.extend(Activation::GATES.map(|activation| Epilogue { activation, end: End::Gate, ..Epilogue::NONE }));
        all
    }
}

/// How a product loads its weight and its rows.
pub(super) struct Loads {
    parts: Vec<&'static str>,
    tags: [&'static str; 2],
}

impl Loads {
    /// `wide` as words of 64 bits, which takes rows that are read as vec4s.
    pub fn of(wide: bool, weight: WeightType, load: Load) -> Self {
        let rows = match load {
            Load::Vec4 if wide => "rows_wide",
            Load::Vec4 => "rows_vec4",
            Load::Scalar => "rows_scalar",
        };
        let weights = if wide { weight.wide_parts() } else { weight.parts() };
        Loads { parts: [&[rows], weights].concat(), tags: [weight.name(), load.tag()] }
    }
}

/// A variant of `matmul` or `matvec`, by the part and the tag of its form.
pub(super) fn product_variant(
    kernel: &'static str,
    (form_part, form_tag): (&'static str, &str),
    loads: Loads,
    epilogue: Epilogue,
) -> Variant {
    let [weight, load] = loads.tags;
    let Epilogue { bias, activation, end } = epilogue;
    let tags = [form_tag, weight, load, if bias { "bias" } else { "" }, activation.tag(), end.tag()];
    Variant {
        parts: [
            &["tanh", "activation", form_part],
            &*loads.parts,
            &["finish", if end == End::Add { "out_add" } else { "out_store" }],
        ]
        .concat(),
        constants: vec![
            ("ACTIVATION", activation as u32),
            ("HAS_BIAS", bias.into()),
            ("GATED", (end == End::Gate).into()),
        ],
        bindings: vec![
            read("rows"),
            read("weight"),
            read("bias"),
            write(if end == End::Add { "stream" } else { "output" }),
        ],
        ..Variant::new(kernel, &tags)
    }
}

/// Every combination that a product's dispatch may choose.
pub(super) fn product_variants<F: Copy>(
    forms: &[F],
    exists: fn(F, WeightType, Load) -> bool,
    variant: fn(F, WeightType, Load, Epilogue) -> Variant,
) -> Vec<Variant> {
    let mut all = Vec::new();
    for &form in forms {
        for weight in WeightType::ALL {
            for &load in weight.loads().iter().filter(|load| exists(form, weight, **load)) {
                all.extend(Epilogue::all(weight).into_iter().map(|epilogue| variant(form, weight, load, epilogue)));
            }
        }
    }
    all
}
