//! The kernels' host halves: for each `shaders/NAME.wgsl` its variants, bindings, parameters and grid, as plain data.

pub mod activation;
pub mod attention;
pub mod attention_merge;
pub mod attention_mix;
pub mod attention_scores;
pub mod attention_split;
pub mod edit;
pub mod embed;
pub mod gate;
pub mod kv_store;
pub mod l2_normalize;
pub mod layer_norm;
pub mod link;
pub mod logit_stats;
pub mod matmul;
pub mod matvec;
pub mod pool;
mod product;
pub mod residual_add;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod soft_cap;
pub mod softmax;
pub mod split_heads;
pub mod summarize;
pub mod surprise;
pub mod take;
mod weight;

pub use weight::{WeightType, padded};

use crate::gpu::{AdapterClass, Capabilities};

/// A kernel of the inventory.
pub struct Kernel {
    /// Stem of the shader, its entry point, its host file, its reference, its check.
    pub name: &'static str,
    /// Whether each token's output depends on that token alone. Attention over keys is the one exception of a model's blocks.
    pub token_local: bool,
    /// Every variant that exists, also those that a given adapter cannot run.
    pub variants: fn() -> Vec<Variant>,
    /// The parameters' names and types, in the order of the WGSL struct.
    pub params: &'static [(&'static str, ParamType)],
}

/// The inventory: tests, checks and benchmarks walk this list, and a test compares it with the folders.
pub const KERNELS: &[Kernel] = &[
    embed::KERNEL,
    layer_norm::KERNEL,
    rms_norm::KERNEL,
    residual_add::KERNEL,
    matmul::KERNEL,
    matvec::KERNEL,
    gate::KERNEL,
    rope::KERNEL,
    kv_store::KERNEL,
    attention::KERNEL,
    attention_split::KERNEL,
    attention_merge::KERNEL,
    attention_scores::KERNEL,
    softmax::KERNEL,
    attention_mix::KERNEL,
    soft_cap::KERNEL,
    pool::KERNEL,
    l2_normalize::KERNEL,
    sample::KERNEL,
    edit::KERNEL,
    logit_stats::KERNEL,
    split_heads::KERNEL,
    summarize::KERNEL,
    take::KERNEL,
    surprise::KERNEL,
];

/// What forms need in which 8 neighbours hand around what each has loaded: they are in one subgroup.
pub(crate) const HANDED: Needs = Needs { features: wgpu::Features::SUBGROUP, subgroup: 8, matrix: 0 };

/// What such forms need that load words of 64 bits, which are no part of WGSL and of naga only.
pub(crate) const WIDE: Needs =
    Needs { features: wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64), subgroup: 8, matrix: 0 };

/// What forms need that multiply cooperative matrices.
pub(crate) const COOPERATION: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SUBGROUP).union(wgpu::Features::SHADER_F16);

/// One way to build a kernel: which parts are linked in front of it, with which constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Unique name, such as `matmul[register,f16,vec4,add]`.
    pub label: String,
    /// Stems of the files in `shaders/parts`.
    pub parts: Vec<&'static str>,
    /// Values of the kernel's `override` constants.
    pub constants: Vec<(&'static str, u32)>,
    /// What is bound from binding 1 on.
    pub bindings: Vec<Bound>,
    /// What the device must have.
    pub needs: Needs,
}

/// What a device must have for a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Features without which it does not compile.
    pub features: wgpu::Features,
    /// Invocations of the smallest subgroup that may happen, without which it is wrong; 0 where that does not matter.
    pub subgroup: u32,
    /// Rows and columns of the cooperative matrices of f16 that it multiplies; 0 where it has none.
    pub matrix: u32,
}

impl Needs {
    /// Runs everywhere.
    pub const NOTHING: Needs = Needs { features: wgpu::Features::empty(), subgroup: 0, matrix: 0 };

    /// All that either needs.
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            features: self.features | other.features,
            subgroup: self.subgroup.max(other.subgroup),
            matrix: self.matrix.max(other.matrix),
        }
    }
}

impl Variant {
    /// A variant of `kernel`, labelled with the non-empty tags, that needs no optional feature.
    pub(crate) fn new(kernel: &'static str, tags: &[&str]) -> Self {
        let tags: Vec<_> = tags.iter().copied().filter(|t| !t.is_empty()).collect();
        let label = if tags.is_empty() { kernel.to_string() } else { format!("{kernel}[{}]", tags.join(",")) };
        Variant { kernel, label, parts: Vec::new(), constants: Vec::new(), bindings: Vec::new(), needs: Needs::NOTHING }
    }
}

/// A storage binding as the host declares it; a test compares it with what the shader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The variable's name in WGSL.
    pub name: &'static str,
    /// How it is bound.
    pub access: Access,
}

/// A binding that is only read.
pub(crate) const fn read(name: &'static str) -> Bound {
    Bound { name, access: Access::Read }
}

/// A binding that is written, and perhaps read.
pub(crate) const fn write(name: &'static str) -> Bound {
    Bound { name, access: Access::ReadWrite }
}

/// How a buffer is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The parameters.
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// `u32`
    U32,
    /// `f32`
    F32,
}

/// How a sum over a workgroup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// A tree in workgroup memory: runs everywhere.
    Workgroup,
    /// Subgroup sums first.
    Subgroup,
}

impl Reduce {
    /// All of them.
    pub const ALL: [Reduce; 2] = [Reduce::Workgroup, Reduce::Subgroup];

    /// The default of an adapter.
    pub fn choose(capabilities: &Capabilities) -> Self {
        if capabilities.subgroups.is_some() { Reduce::Subgroup } else { Reduce::Workgroup }
    }

    fn tag(self) -> &'static str {
        match self {
            Reduce::Workgroup => "workgroup",
            Reduce::Subgroup => "subgroup",
        }
    }

    fn apply(self, variant: &mut Variant) {
        match self {
            Reduce::Workgroup => variant.parts.push("reduce_workgroup"),
            Reduce::Subgroup => {
                variant.parts.push("reduce_subgroup");
                variant.needs.features |= wgpu::Features::SUBGROUP;
            }
        }
    }
}

/// Who sums a row of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// A workgroup.
    Shared(Reduce),
    /// One invocation: for drivers that run on the CPU.
    Own,
}

impl Rows {
    /// All of them.
    pub const ALL: [Rows; 3] = [Rows::Shared(Reduce::Workgroup), Rows::Shared(Reduce::Subgroup), Rows::Own];

    /// The default of an adapter.
    pub fn choose(capabilities: &Capabilities) -> Self {
        match capabilities.class {
            AdapterClass::Cpu => Rows::Own,
            AdapterClass::Integrated | AdapterClass::Discrete => Rows::Shared(Reduce::choose(capabilities)),
        }
    }

    /// Rows that a workgroup takes.
    fn each(self) -> u32 {
        match self {
            Rows::Shared(_) => 1,
            Rows::Own => 8,
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Rows::Shared(reduce) => reduce.tag(),
            Rows::Own => "own",
        }
    }

    fn apply(self, variant: &mut Variant) {
        match self {
            Rows::Shared(reduce) => {
                variant.parts.push("sums_shared");
                variant.constants.push(("LANES", 64));
                reduce.apply(variant);
            }
            Rows::Own => {
                variant.parts.push("sums_own");
                variant.constants.push(("LANES", self.each()));
            }
        }
    }
}

/// How rows of activations are read: as vec4s where every row starts at a multiple of 4, else as scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Every length and offset is a multiple of 4.
    Vec4,
    /// Anything.
    Scalar,
}

impl Load {
    /// Both.
    pub const ALL: [Load; 2] = [Load::Vec4, Load::Scalar];

    /// The fastest that is right for all of these lengths.
    pub fn choose(lengths: &[usize]) -> Self {
        if lengths.iter().all(|n| n % 4 == 0) { Load::Vec4 } else { Load::Scalar }
    }

    fn elements_part(self) -> &'static str {
        match self {
            Load::Vec4 => "elements_vec4",
            Load::Scalar => "elements_scalar",
        }
    }

    fn heads_part(self) -> &'static str {
        match self {
            Load::Vec4 => "heads_vec4",
            Load::Scalar => "heads_scalar",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Load::Vec4 => "vec4",
            Load::Scalar => "scalar",
        }
    }
}
