//! How weights are stored on the GPU, which is how `matmul`, `matvec` and `embed` read them: widened in registers, never
//! in memory.

use super::Load;
use super::activation::Activation;

/// How the elements of a weight are stored on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// Half floats, widened in registers; needs no feature.
    F16,
    /// bfloat16, widened in registers.
    Bf16,
    /// GGUF's blocks of 32 bytes under one scale.
    Q8_0,
    /// GGUF's blocks of 32 elements of 4 bits under one scale.
    Q4_0,
    /// GGUF's blocks of 256 elements of 4 bits, with scales and minima of 6 bits.
    Q4K,
    /// GGUF's blocks of 256 elements of 5 bits, with scales and minima of 6 bits.
    Q5K,
    /// GGUF's blocks of 256 elements of 6 bits, with scales of 8 bits.
    Q6K,
}

/// What a weight's rows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Elements in a block; a row is whole blocks.
    pub elements: usize,
    /// Its size.
    pub bytes: usize,
}

impl WeightType {
    /// All of them.
    pub const ALL: [WeightType; 8] = [
        WeightType::F32,
        WeightType::F16,
        WeightType::Bf16,
        WeightType::Q8_0,
        WeightType::Q4_0,
        WeightType::Q4K,
        WeightType::Q5K,
        WeightType::Q6K,
    ];

    /// What rows are made of: of a float type, single elements.
    pub const fn block(self) -> Block {
        let (elements, bytes) = match self {
            WeightType::F32 => (1, 4),
            WeightType::F16 | WeightType::Bf16 => (1, 2),
            WeightType::Q8_0 => (32, 34),
            WeightType::Q4_0 => (32, 18),
            WeightType::Q4K => (256, 144),
            WeightType::Q5K => (256, 176),
            WeightType::Q6K => (256, 210),
        };
        Block { elements, bytes }
    }

    /// Bytes of a row of so many elements, which are whole blocks and include the padding.
    pub const fn row_bytes(self, elements: usize) -> usize {
        elements / self.block().elements * self.block().bytes
    }

    /// Elements from one row of so many columns to the next: the columns padded with zeros to a multiple of 4, so that rows are
    /// read as vec4s, and by another 64 bytes where rows were multiples of 1 KiB: such rows meet in a few sets of a CPU's cache,
    /// where those that a tile reads together drive each other out. Rows of quantised weights are whole blocks, and need none.
    pub const fn stride(self, columns: usize) -> usize {
        let columns = if self.quantised() { columns } else { padded(columns) };
        let meet = !self.quantised() && self.row_bytes(columns).is_multiple_of(1024);
        if meet { columns + 64 / self.block().bytes } else { columns }
    }

    /// Whether elements share scales.
    pub const fn quantised(self) -> bool {
        self.block().elements > 1
    }

    /// `f32`, `q8_0` and so on.
    pub fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "f32",
            WeightType::F16 => "f16",
            WeightType::Bf16 => "bf16",
            WeightType::Q8_0 => "q8_0",
            WeightType::Q4_0 => "q4_0",
            WeightType::Q4K => "q4_k",
            WeightType::Q5K => "q5_k",
            WeightType::Q6K => "q6_k",
        }
    }

    /// The parts that define `weight4`, and the runs of elements that share a scale, in the order in which they are linked.
    pub(super) fn parts(self) -> &'static [&'static str] {
        match self {
            WeightType::F32 => &["unscaled", "weight_f32"],
            WeightType::F16 => &["unscaled", "weight_f16"],
            WeightType::Bf16 => &["unscaled", "weight_bf16"],
            WeightType::Q8_0 => &["weight_blocks", "weight_q8_0"],
            WeightType::Q4_0 => &["weight_blocks", "weight_q4_0"],
            WeightType::Q4K => &["weight_blocks", "scales_k", "weight_q4_k"],
            WeightType::Q5K => &["weight_blocks", "scales_k", "weight_q5_k"],
            WeightType::Q6K => &["weight_blocks", "weight_q6_k"],
        }
    }

    /// The same where the type is loaded as words of 64 bits; blocks are not.
    pub(super) fn wide_parts(self) -> &'static [&'static str] {
        match self {
            WeightType::F32 => &["unscaled", "weight_f32_wide"],
            WeightType::F16 => &["unscaled", "weight_f16_wide"],
            WeightType::Bf16 => &["unscaled", "weight_bf16_wide"],
            _ => self.parts(),
        }
    }

    /// How rows that are multiplied with it may be read: K of a quantised weight is whole blocks.
    pub fn loads(self) -> &'static [Load] {
        if self.quantised() { &[Load::Vec4] } else { &Load::ALL }
    }

    /// What a product with it may store, with a bias or without. Of quantised models, those whose FFN has no gate apply
    /// an activation to a product, GELU in one form or the other behind a bias; a model that wants another one must not
    /// keep that weight quantised.
    pub fn activations(self, bias: bool) -> &'static [Activation] {
        match (self.quantised(), bias) {
            (false, _) => &Activation::ALL,
            (true, false) => &[Activation::None],
            (true, true) => &[Activation::None, Activation::GeluErf, Activation::GeluTanh],
        }
    }
}

/// Elements of a row that are multiplied: its columns and zeros, to a multiple of 4.
pub const fn padded(columns: usize) -> usize {
    columns.next_multiple_of(4)
}
