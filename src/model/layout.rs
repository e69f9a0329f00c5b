//! Where a model's weights lie on the GPU, and which tensors they come from: plain data, made before any allocation.

use super::spec::{Family, Names, RelativeBuckets, Spec};
use super::weights::Dtype;
use crate::error::{Error, Result};
use crate::files::{Checkpoint, DenseConfig, Dtype as Stored, TensorInfo};
use crate::kernels::attention::RelativeBias;
use crate::kernels::matmul::Activation;
use crate::kernels::{WeightType, padded};
use crate::schedule::Slot;

/// A matrix on the GPU: rows of [`padded`] columns, in as many buffers as the binding limit asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// How elements are stored.
    pub weight_type: WeightType,
    /// Rows.
    pub rows: usize,
    /// Columns, without the padding.
    pub columns: usize,
    /// Ranges of rows, in order.
    pub chunks: Vec<Chunk>,
}

/// A range of a matrix's rows in a buffer of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk {
    /// The buffer.
    pub slot: Slot,
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

/// A layer norm's γ and β.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// γ
    pub gamma: Slot,
    /// β
    pub beta: Slot,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// W_Q, W_K and W_V, one below the other.
    pub qkv: Linear,
    /// W_O.
    pub o: Linear,
    /// After attention.
    pub attention_norm: Norm,
    /// First matrix of the FFN.
    pub up: Linear,
    /// Second matrix of the FFN.
    pub down: Linear,
    /// After the FFN.
    pub mlp_norm: Norm,
}

/// A dense layer after the pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// The product.
    pub linear: Linear,
    /// What follows it.
    pub activation: Activation,
}

/// Everything that a recording of an encoder binds.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensors {
    /// Word table.
    pub words: Matrix,
    /// Position table, f32.
    pub positions: Slot,
    /// Type table, f32.
    pub types: Option<Slot>,
    /// Norm of the embedding sum.
    pub embedding_norm: Norm,
    /// Relative biases of the scores.
    pub relative_bias: Option<RelativeBias>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Dense layers after the pooling.
    pub dense: Vec<Dense>,
}

/// One buffer of weights and what fills it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The first tensor's name.
    pub label: String,
    /// Which checkpoint: 0 is the transformer's, then those of the dense layers.
    pub checkpoint: usize,
    /// The tensors' rows that it holds, one below the other.
    pub parts: Vec<Part>,
    /// Elements in a row.
    pub columns: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// How elements are stored.
    pub weight_type: WeightType,
    /// Spread by [`RelativeBuckets::table`] for that many heads and that reach.
    pub spread: Option<(RelativeBuckets, usize, usize)>,
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
}

impl Parameter {
    /// Rows of all parts.
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|p| p.rows).sum()
    }

    /// Size of the buffer.
    pub fn bytes(&self) -> u64 {
        match self.spread {
            Some((_, heads, reach)) => 4 * heads as u64 * (2 * reach as u64 - 1),
            None => self.rows() as u64 * self.stride as u64 * self.weight_type.size() as u64,
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
    /// `checkpoints` are the transformer's and one for each of `dense`; `limit` is the largest binding in bytes.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and tensor that is missing, or whose shape contradicts the config.
    pub fn new(
        spec: &Spec,
        family: &Family,
        checkpoints: &[Checkpoint],
        dense: &[DenseConfig],
        dtype: Dtype,
        limit: u64,
    ) -> Result<Self> {
        let mut builder = Builder { checkpoints, checkpoint: 0, prefix: "", dtype, limit, parameters: Vec::new() };
        let names = &family.names;
        builder.prefix = builder.find_prefix(names)?;
        let d = spec.hidden_size;
        let words = builder.matrix(&[format!("{}.weight", names.words)], &[spec.vocab_size], d)?;
        let positions = builder.table(names.positions, spec.max_position_embeddings, d)?;
        let types = match spec.type_vocab_size {
            0 => None,
            rows => Some(builder.table(names.types, rows, d)?),
        };
        let embedding_norm = builder.norm(names.embedding_norm, d)?;
        let relative_bias = match spec.relative_bias {
            None => None,
            Some(buckets) => Some(builder.relative_bias(names.relative_bias, buckets, spec)?),
        };
        let blocks = (0..spec.num_hidden_layers).map(|l| builder.block(names, spec, l)).collect::<Result<_>>()?;
        let dense = dense.iter().enumerate().map(|(i, config)| builder.dense(i + 1, config)).collect::<Result<_>>()?;
        let tensors = Tensors { words, positions, types, embedding_norm, relative_bias, blocks, dense };
        Ok(Layout { parameters: builder.parameters, tensors })
    }

    /// Bytes of all weights on the GPU.
    pub fn bytes(&self) -> u64 {
        self.parameters.iter().map(Parameter::bytes).sum()
    }
}

struct Builder<'a> {
    checkpoints: &'a [Checkpoint],
    checkpoint: usize,
    prefix: &'static str,
    dtype: Dtype,
    limit: u64,
    parameters: Vec<Parameter>,
}

impl Builder<'_> {
    fn source(&self) -> &Checkpoint {
        &self.checkpoints[self.checkpoint]
    }

    fn find_prefix(&self, names: &Names) -> Result<&'static str> {
        let word_table =
            |prefix: &&&'static str| self.source().get(&format!("{prefix}{}.weight", names.words)).is_some();
        match names.prefixes.iter().find(word_table) {
            Some(prefix) => Ok(prefix),
            None => Err(Error::file(
                self.source().dir(),
                format!("tensor {}.weight is missing (also with the prefixes {:?})", names.words, names.prefixes),
            )),
        }
    }

    /// The tensor of that name, with a shape that must be as given.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let name = format!("{}{name}", self.prefix);
        let Some(info) = self.source().get(&name) else {
            return Err(Error::file(self.source().dir(), format!("tensor {name} is missing")));
        };
        if info.shape != shape {
            return Err(self.source().error(info, format!("expected shape {shape:?}, found {:?}", info.shape)));
        }
        if !matches!(info.dtype, Stored::F32 | Stored::F16 | Stored::Bf16) {
            return Err(Error::unsupported(
                self.source().path_of(info),
                format!("tensor {name} of type {}; weights are F32, F16 or BF16", info.dtype.name()),
            ));
        }
        Ok(info)
    }

    /// Appends a buffer.
    fn push(&mut self, parts: Vec<Part>, columns: usize, stride: usize, weight_type: WeightType) -> Slot {
        self.parameters.push(Parameter {
            label: parts.first().map_or_else(String::new, |p| p.tensor.clone()),
            checkpoint: self.checkpoint,
            parts,
            columns,
            stride,
            weight_type,
            spread: None,
        });
        Slot::Weight(self.parameters.len() - 1)
    }

    /// Matrices `[rows, columns]` one below the other, in chunks within the binding limit.
    fn matrix(&mut self, names: &[String], rows: &[usize], columns: usize) -> Result<Matrix> {
        let infos: Vec<_> =
            names.iter().zip(rows).map(|(name, &rows)| self.tensor(name, &[rows, columns])).collect::<Result<_>>()?;
        let weight_type = self.dtype.of(infos.iter().map(|info| info.dtype));
        let tensors: Vec<_> = infos.iter().map(|info| info.name.clone()).collect();
        let row_bytes = (padded(columns) * weight_type.size()) as u64;
        // a multiple of 64 rows, so that no tile of a product straddles two chunks needlessly
        let most = match (self.limit / row_bytes) as usize {
            few @ 0..64 => few.max(1),
            many => many / 64 * 64,
        };
        let total: usize = rows.iter().sum();
        let mut chunks = Vec::new();
        for first_row in (0..total).step_by(most) {
            let count = most.min(total - first_row);
            let parts = slice_parts(&tensors, rows, first_row, count);
            let slot = self.push(parts, columns, padded(columns), weight_type);
            chunks.push(Chunk { slot, first_row, rows: count });
        }
        Ok(Matrix { weight_type, rows: total, columns, chunks })
    }

    /// A vector, or several one behind another, cut like a matrix's chunks.
    fn vectors(&mut self, names: &[String], lengths: &[usize], chunks: &[Chunk]) -> Result<Vec<Slot>> {
        let infos: Vec<_> = names.iter().zip(lengths).map(|(n, &len)| self.tensor(n, &[len])).collect::<Result<_>>()?;
        let tensors: Vec<_> = infos.iter().map(|info| info.name.clone()).collect();
        Ok(chunks
            .iter()
            .map(|c| self.push(slice_parts(&tensors, lengths, c.first_row, c.rows), 1, 1, WeightType::F32))
            .collect())
    }

    /// A small table `[rows, columns]` in f32, without padding.
    fn table(&mut self, stem: &str, rows: usize, columns: usize) -> Result<Slot> {
        let tensor = self.tensor(&format!("{stem}.weight"), &[rows, columns])?.name.clone();
        Ok(self.push(vec![Part { tensor, first_row: 0, rows }], columns, columns, WeightType::F32))
    }

    fn relative_bias(&mut self, stem: &str, buckets: RelativeBuckets, spec: &Spec) -> Result<RelativeBias> {
        let (heads, reach) = (spec.num_attention_heads, spec.max_tokens());
        let table = self.table(stem, buckets.buckets, heads)?;
        if let Some(parameter) = self.parameters.last_mut() {
            parameter.spread = Some((buckets, heads, reach));
        }
        Ok(RelativeBias { table, reach })
    }

    fn linear(&mut self, stems: &[String], rows: &[usize], columns: usize, bias: bool) -> Result<Linear> {
        let with = |end: &str| stems.iter().map(|stem| format!("{stem}.{end}")).collect::<Vec<_>>();
        let weight = self.matrix(&with("weight"), rows, columns)?;
        let bias = if bias { self.vectors(&with("bias"), rows, &weight.chunks)? } else { Vec::new() };
        Ok(Linear { weight, bias })
    }

    /// γ and β, under their present or their old names.
    fn norm(&mut self, stem: &str, columns: usize) -> Result<Norm> {
        let old = self.source().get(&format!("{}{stem}.gamma", self.prefix)).is_some();
        let (gamma, beta) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let mut vector = |end: &str| -> Result<Slot> {
            let tensor = self.tensor(&format!("{stem}.{end}"), &[columns])?.name.clone();
            Ok(self.push(vec![Part { tensor, first_row: 0, rows: columns }], 1, 1, WeightType::F32))
        };
        Ok(Norm { gamma: vector(gamma)?, beta: vector(beta)? })
    }

    fn block(&mut self, names: &Names, spec: &Spec, l: usize) -> Result<Block> {
        let prefix = names.block.replace("{l}", &l.to_string());
        let stem = |name: &str| format!("{prefix}{name}");
        let (d, heads, ffn) = (spec.hidden_size, spec.num_attention_heads * spec.head_size, spec.intermediate_size);
        let qkv = [names.q, names.k, names.v].map(stem);
        Ok(Block {
            qkv: self.linear(&qkv, &[heads; 3], d, true)?,
            o: self.linear(&[stem(names.o)], &[d], heads, true)?,
            attention_norm: self.norm(&stem(names.attention_norm), d)?,
            up: self.linear(&[stem(names.up)], &[ffn], d, true)?,
            down: self.linear(&[stem(names.down)], &[d], ffn, true)?,
            mlp_norm: self.norm(&stem(names.mlp_norm), d)?,
        })
    }

    fn dense(&mut self, checkpoint: usize, config: &DenseConfig) -> Result<Dense> {
        use crate::files::Activation as Named;
        self.checkpoint = checkpoint;
        self.prefix = "";
        let linear = self.linear(&["linear".into()], &[config.out_features], config.in_features, config.bias)?;
        let activation = match config.activation {
            Named::Identity => Activation::None,
            Named::Tanh => Activation::Tanh,
            Named::ReLU => Activation::Relu,
            Named::Gelu => Activation::GeluErf,
            Named::Sigmoid => Activation::Sigmoid,
            Named::SiLU => Activation::Silu,
        };
        Ok(Dense { linear, activation })
    }
}

/// The parts of tensors that stand one below the other which make up `count` rows from `first` on.
fn slice_parts(tensors: &[String], rows: &[usize], first: usize, count: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (tensor, &rows) in tensors.iter().zip(rows) {
        let from = first.max(begin);
        let to = (first + count).min(begin + rows);
        if from < to {
            parts.push(Part { tensor: tensor.clone(), first_row: from - begin, rows: to - from });
        }
        begin += rows;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_stacked_tensors() {
        let names = ["q".to_string(), "k".into(), "v".into()];
        let parts = |first, count| {
            slice_parts(&names, &[5, 5, 5], first, count)
                .into_iter()
                .map(|p| (p.tensor, p.first_row, p.rows))
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(0, 15), [("q".into(), 0, 5), ("k".into(), 0, 5), ("v".into(), 0, 5)]);
        assert_eq!(parts(4, 7), [("q".into(), 4, 1), ("k".into(), 0, 5), ("v".into(), 0, 1)]);
        assert_eq!(parts(10, 2), [("v".into(), 0, 2)]);
    }
}
