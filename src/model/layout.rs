//! Where a model's weights lie on the GPU, and which tensors they come from: plain data, made before any allocation.

use super::names::Names;
use super::place::Builder;
use super::spec::{RelativeBuckets, Spec};
use super::weights::Dtype;
use crate::error::Result;
use crate::files::{DenseConfig, Source};
use crate::kernels::WeightType;
use crate::kernels::attention::RelativeBias;
use crate::kernels::matmul::Activation;
use crate::schedule::Slot;

/// A matrix on the GPU: rows that are [`stride`](WeightType::stride) elements apart, in as many buffers as the
/// binding limit asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns, without the padding.
    pub columns: usize,
    /// Ranges of rows, in order, which need not be stored alike.
    pub chunks: Vec<Chunk>,
}

/// A range of a matrix's rows in a buffer of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk {
    /// The buffer.
    pub slot: Slot,
    /// How its elements are stored.
    pub weight_type: WeightType,
    /// First row.
    pub first_row: usize,
    /// Rows.
    pub rows: usize,
}

/// A matrix with a bias, `[rows]` in f32, split like the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The matrix `[out, in]`.
    pub weight: Matrix,
    /// One buffer for each chunk; empty where there is no bias.
    pub bias: Vec<Slot>,
}

impl Linear {
    /// Whether one product can apply the gates of such a matrix, gates above what they let through: where it is one chunk,
    /// without bias, and products have that activation for gates.
    pub fn gates(&self, activation: Activation) -> bool {
        self.weight.chunks.len() == 1 && self.bias.is_empty() && Activation::GATES.contains(&activation)
    }
}

/// A norm's γ and β.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// γ
    pub gamma: Slot,
    /// β, where the norm has one.
    pub beta: Option<Slot>,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Before attention; with post-norm blocks after its addition.
    pub attention_norm: Option<Norm>,
    /// W_Q, W_K and W_V, one below the other.
    pub qkv: Linear,
    /// γ of the norms of queries and of keys.
    pub qk_norms: Option<[Slot; 2]>,
    /// W_O.
    pub o: Linear,
    /// Of attention's output.
    pub attention_post_norm: Option<Norm>,
    /// Before the FFN; with post-norm blocks after its addition.
    pub mlp_norm: Option<Norm>,
    /// First matrix of the FFN; gate and up, one below the other, where it is gated.
    pub up: Linear,
    /// Second matrix of the FFN.
    pub down: Linear,
    /// Of the FFN's output.
    pub mlp_post_norm: Option<Norm>,
}

/// A dense layer after the pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// The product.
    pub linear: Linear,
    /// What follows it.
    pub activation: Activation,
}

/// What makes logits of the stream behind its final norm.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitHead {
    /// What a masked language model has in front of the decoder.
    pub transform: Option<Transform>,
    /// A row for each token of the vocabulary: the word table itself where they are tied.
    pub decoder: Linear,
}

/// norm(activation(dense(x))).
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    /// The product.
    pub dense: Linear,
    /// What follows it.
    pub activation: Activation,
    /// And then.
    pub norm: Norm,
}

/// Everything that a recording binds.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensors {
    /// Word table.
    pub words: Matrix,
    /// Position table, f32.
    pub positions: Option<Slot>,
    /// Type table, f32.
    pub types: Option<Slot>,
    /// Norm of the embedding sum.
    pub embedding_norm: Option<Norm>,
    /// Relative biases of the scores.
    pub relative_bias: Option<RelativeBias>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub final_norm: Option<Norm>,
    /// The language model's head.
    pub head: Option<LogitHead>,
    /// Dense layers after the pooling.
    pub dense: Vec<Dense>,
}

/// One buffer of weights and what fills it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The first tensor's name.
    pub label: String,
    /// Which source: 0 is the transformer's, then those of the dense layers.
    pub source: usize,
    /// The tensors' rows that it holds, one below the other.
    pub parts: Vec<Part>,
    /// Elements in a row.
    pub columns: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// How elements are stored.
    pub weight_type: WeightType,
    /// What becomes of the tensors on their way.
    pub change: Change,
}

/// What becomes of tensors on their way into a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    None,
    /// They are stored `[columns, rows]`.
    Transpose,
    /// Spread by [`RelativeBuckets::table`] for that many heads and that reach.
    Spread(RelativeBuckets, usize, usize),
}

/// A range of rows of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The tensor.
    pub tensor: String,
    /// First row.
    pub first_row: usize,
    /// Rows.
    pub rows: usize,
    /// From one row to the next.
    pub step: usize,
}

impl Parameter {
    /// Rows of all parts.
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|p| p.rows).sum()
    }

    /// Size of the buffer.
    pub fn bytes(&self) -> u64 {
        match self.change {
            Change::Spread(_, heads, reach) => 4 * heads as u64 * (2 * reach as u64 - 1),
            _ => self.rows() as u64 * self.weight_type.row_bytes(self.stride) as u64,
        }
    }
}

/// A model's buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// By slot: `Slot::Weight(i)` is the i-th.
    pub parameters: Vec<Parameter>,
    /// What they mean.
    pub tensors: Tensors,
}

impl Layout {
    /// Finds every tensor, checks its shape and type, and places it.
    ///
    /// `sources` are the transformer's and one for each of `dense`; `limit` is the largest binding in bytes.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the file and tensor that is missing, or whose shape contradicts the config.
    pub fn new(
        spec: &Spec,
        names: &Names,
        sources: &[Source],
        dense: &[DenseConfig],
        dtype: Dtype,
        limit: u64,
    ) -> Result<Self> {
        let (parameters, tensors) = Builder::build(spec, names, sources, dense, dtype, limit)?;
        Ok(Layout { parameters, tensors })
    }

    /// Bytes of all weights on the GPU.
    pub fn bytes(&self) -> u64 {
        self.parameters.iter().map(Parameter::bytes).sum()
    }
}
