//! Finds a model's tensors, checks their shapes, and places them: what makes a layout.

use super::layout::{
    Block, Change, Chunk, Dense, Linear, LogitHead, Matrix, Norm, Parameter, Part, Tensors, Transform,
};
use super::names::{MaskedNames, Names, QkvRows};
use super::spec::{LmHead, MaskedHead, NormKind, Placement, Positions, QkNorm, RelativeBuckets, Spec};
use super::weights::Dtype;
use crate::error::{Error, Result};
use crate::files::{DenseConfig, Element, Source, Stored};
use crate::kernels::WeightType;
use crate::kernels::attention::RelativeBias;
use crate::kernels::matmul::Activation;
use crate::schedule::Slot;

pub(super) struct Builder<'a> {
    sources: &'a [Source],
    source: usize,
    prefix: &'static str,
    dtype: Dtype,
    limit: u64,
    parameters: Vec<Parameter>,
}

impl<'a> Builder<'a> {
    /// The buffers of a model, and what they mean.
    pub fn build(
        spec: &Spec,
        names: &Names,
        sources: &'a [Source],
        dense: &[DenseConfig],
        dtype: Dtype,
        limit: u64,
    ) -> Result<(Vec<Parameter>, Tensors)> {
        let mut builder = Builder { sources, source: 0, prefix: "", dtype, limit, parameters: Vec::new() };
        builder.prefix = builder.find_prefix(names)?;
        let d = spec.hidden_size;
        let (words, head) = builder.words_and_head(names, spec)?;
        let positions = match spec.positions {
            Positions::Rotary => None,
            _ => Some(builder.table(names.positions, spec.max_position_embeddings, d)?),
        };
        let types = match spec.type_vocab_size {
            0 => None,
            rows => Some(builder.table(names.types, rows, d)?),
        };
        let embedding_norm = builder.norm_if(spec.embedding_norm, spec, names.embedding_norm)?;
        let relative_bias = match spec.relative_bias {
            None => None,
            Some(buckets) => Some(builder.relative_bias(names.relative_bias, buckets, spec)?),
        };
        let blocks = (0..spec.num_hidden_layers).map(|l| builder.block(names, spec, l)).collect::<Result<_>>()?;
        let final_norm = builder.norm_if(spec.final_norm, spec, names.final_norm)?;
        let decoder = |weight| LogitHead { transform: None, decoder: Linear { weight, bias: Vec::new() } };
        let head = match spec.masked_head {
            None => head.map(decoder),
            Some(masked) => builder.masked_head(names, spec, masked, &words)?,
        };
        let dense = dense.iter().enumerate().map(|(i, config)| builder.dense(i + 1, config)).collect::<Result<_>>()?;
        let tensors =
            Tensors { words, positions, types, embedding_norm, relative_bias, blocks, final_norm, head, dense };
        Ok((builder.parameters, tensors))
    }

    fn source(&self) -> &'a Source {
        &self.sources[self.source]
    }

    fn find_prefix(&self, names: &Names) -> Result<&'static str> {
        let first = names.block.replace("{l}", "0") + names.qkv.first().unwrap_or(&"");
        let known = |prefix: &&&'static str| {
            [names.words, &first].iter().any(|stem| self.source().get(&format!("{prefix}{stem}.weight")).is_some())
        };
        match names.prefixes.iter().find(known) {
            Some(prefix) => Ok(prefix),
            None => Err(Error::file(
                self.source().path(),
                format!("tensor {}.weight is missing (also with the prefixes {:?})", names.words, names.prefixes),
            )),
        }
    }

    /// The tensor of that name, with a shape that must be as given.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Stored<'a>> {
        let name = format!("{}{name}", self.prefix);
        let Some(stored) = self.source().get(&name) else { return Err(self.source().missing(&name)) };
        if stored.shape != shape {
            return Err(stored.error(format!("expected shape {shape:?}, found {:?}", stored.shape)));
        }
        if stored.element == Element::Other {
            return Err(stored.not_weights());
        }
        Ok(stored)
    }

    /// Appends a buffer.
    fn push(&mut self, parts: Vec<Part>, columns: usize, stride: usize, weight_type: WeightType) -> Slot {
        self.parameters.push(Parameter {
            label: parts.first().map_or_else(String::new, |p| p.tensor.clone()),
            source: self.source,
            parts,
            columns,
            stride,
            weight_type,
            change: Change::None,
        });
        Slot::Weight(self.parameters.len() - 1)
    }

    /// Rows of tensors as a matrix: a chunk for each run of rows that are stored alike, within the binding limit.
    fn matrix(&mut self, parts: &[Part], columns: usize, change: Change) -> Matrix {
        let mut chunks = Vec::new();
        let mut above = 0;
        let (source, dtype) = (self.source(), self.dtype);
        let stored = |part: &Part| source.get(&part.tensor).map_or(Element::Other, |stored| stored.element);
        let weight_type = |part: &Part| dtype.of(stored(part));
        for run in parts.chunk_by(|a, b| weight_type(a) == weight_type(b)) {
            let weight_type = weight_type(&run[0]);
            let row_bytes = weight_type.row_bytes(weight_type.stride(columns)) as u64;
            // a multiple of 64 rows, so that no tile of a product straddles two chunks needlessly
            let most = match (self.limit / row_bytes) as usize {
                few @ 0..64 => few.max(1),
                many => many / 64 * 64,
            };
            let rows: usize = run.iter().map(|part| part.rows).sum();
            for first in (0..rows).step_by(most) {
                let count = most.min(rows - first);
                let slot = self.push(slice_parts(run, first, count), columns, weight_type.stride(columns), weight_type);
                if let Some(parameter) = self.parameters.last_mut() {
                    parameter.change = change;
                }
                chunks.push(Chunk { slot, weight_type, first_row: above + first, rows: count });
            }
            above += rows;
        }
        Matrix { rows: above, columns, chunks }
    }

    /// A vector in f32.
    fn vector(&mut self, name: &str, length: usize) -> Result<Slot> {
        let tensor = self.tensor(name, &[length])?.name.into();
        Ok(self.push(vec![Part { tensor, first_row: 0, rows: length, step: 1 }], 1, 1, WeightType::F32))
    }

    /// A small table `[rows, columns]` in f32, without padding.
    fn table(&mut self, stem: &str, rows: usize, columns: usize) -> Result<Slot> {
        let tensor = self.tensor(&format!("{stem}.weight"), &[rows, columns])?.name.into();
        Ok(self.push(vec![Part { tensor, first_row: 0, rows, step: 1 }], columns, columns, WeightType::F32))
    }

    /// The word table, and a language model's head: the same matrix where they are tied and no other head is stored.
    fn words_and_head(&mut self, names: &Names, spec: &Spec) -> Result<(Matrix, Option<Matrix>)> {
        let (rows, columns) = (spec.vocab_size, spec.hidden_size);
        let words = format!("{}{}.weight", self.prefix, names.words);
        let prefix = std::mem::take(&mut self.prefix);
        let whole = |builder: &mut Self, name: &str| -> Result<Matrix> {
            let tensor = builder.tensor(name, &[rows, columns])?.name.into();
            Ok(builder.matrix(&[Part { tensor, first_row: 0, rows, step: 1 }], columns, Change::None))
        };
        let stored = names.heads.iter().find(|name| self.source().get(name).is_some()).copied();
        let both = match (spec.head, stored) {
            (None, _) => (whole(self, &words)?, None),
            (Some(LmHead { tied: true, .. }), Some(head)) if self.source().get(&words).is_none() => {
                let table = whole(self, head)?;
                (table.clone(), Some(table))
            }
            (Some(LmHead { tied: true, .. }), stored) if self.same(&words, stored)? => {
                let table = whole(self, &words)?;
                (table.clone(), Some(table))
            }
            (Some(_), Some(head)) => (whole(self, &words)?, Some(whole(self, head)?)),
            (Some(_), None) => {
                let what =
                    format!("tensor {} is missing, and the config does not tie the head", names.heads.join(" or "));
                return Err(Error::file(self.source().path(), what));
            }
        };
        self.prefix = prefix;
        Ok(both)
    }

    /// The head for masked tokens of a folder that holds one.
    fn masked_head(
        &mut self,
        names: &Names,
        spec: &Spec,
        masked: MaskedHead,
        words: &Matrix,
    ) -> Result<Option<LogitHead>> {
        let Some(MaskedNames { dense, norm, decoder, biases }) = names.masked_head(self.source()) else {
            return Ok(None);
        };
        let (rows, d) = (spec.vocab_size, spec.hidden_size);
        let table = format!("{}{}.weight", self.prefix, names.words);
        let prefix = std::mem::take(&mut self.prefix);
        let stack = Stack {
            stems: vec![dense.into()],
            rows: vec![d],
            order: QkvRows::Stacked,
            head_size: spec.head_size,
            transposed: false,
        };
        let dense = self.linear(&stack, d, masked.dense_bias)?;
        let norm = self.norm(norm, d, spec.norm)?;
        let stored = self.source().get(decoder).is_some();
        let weight = if masked.tied && self.same(&table, stored.then_some(decoder))? {
            words.clone()
        } else {
            let tensor = self.tensor(decoder, &[rows, d])?.name.into();
            self.matrix(&[Part { tensor, first_row: 0, rows, step: 1 }], d, Change::None)
        };
        let mut bias = Vec::new();
        if masked.bias {
            let stored = biases.iter().find(|name| self.source().get(name).is_some());
            let tensor = self.tensor(stored.unwrap_or(&biases[0]), &[rows])?.name.into();
            let parts = [Part { tensor, first_row: 0, rows, step: 1 }];
            for chunk in &weight.chunks {
                bias.push(self.push(slice_parts(&parts, chunk.first_row, chunk.rows), 1, 1, WeightType::F32));
            }
        }
        self.prefix = prefix;
        let transform = Some(Transform { dense, activation: masked.activation, norm });
        Ok(Some(LogitHead { transform, decoder: Linear { weight, bias } }))
    }

    /// Whether a stored head is the word table again, or none is stored.
    fn same(&self, words: &str, head: Option<&str>) -> Result<bool> {
        let Some(head) = head else { return Ok(true) };
        let source = self.source();
        let (Some(a), Some(b)) = (source.get(words), source.get(head)) else { return Ok(false) };
        if (a.element, a.shape, a.bytes) != (b.element, b.shape, b.bytes) {
            return Ok(false);
        }
        const STEP: u64 = 1 << 20;
        let (mut left, mut right) = (vec![0; STEP as usize], vec![0; STEP as usize]);
        for offset in (0..a.bytes).step_by(STEP as usize) {
            let length = STEP.min(a.bytes - offset) as usize;
            a.read(offset, &mut left[..length])?;
            b.read(offset, &mut right[..length])?;
            if left[..length] != right[..length] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn relative_bias(&mut self, stem: &str, buckets: RelativeBuckets, spec: &Spec) -> Result<RelativeBias> {
        let (heads, reach) = (spec.num_attention_heads, spec.max_tokens());
        let table = self.table(stem, buckets.buckets, heads)?;
        if let Some(parameter) = self.parameters.last_mut() {
            parameter.change = Change::Spread(buckets, heads, reach);
        }
        Ok(RelativeBias { table, reach })
    }

    /// Matrices one below the other as one, with their biases. `order` says which rows of the tensors stand where.
    fn linear(&mut self, weights: &Stack, columns: usize, bias: bool) -> Result<Linear> {
        let shape = |rows| if weights.transposed { vec![columns, rows] } else { vec![rows, columns] };
        let change = if weights.transposed { Change::Transpose } else { Change::None };
        let parts = self.parts(weights, "weight", shape)?;
        let weight = self.matrix(&parts, columns, change);
        let mut bias_slots = Vec::new();
        if bias {
            let parts = self.parts(weights, "bias", |rows| vec![rows])?;
            for chunk in &weight.chunks {
                let parts = slice_parts(&parts, chunk.first_row, chunk.rows);
                bias_slots.push(self.push(parts, 1, 1, WeightType::F32));
            }
        }
        Ok(Linear { weight, bias: bias_slots })
    }

    /// The rows of a stack's tensors, in the order in which they stand on the GPU; every tensor is checked.
    fn parts(&self, stack: &Stack, end: &str, shape: impl Fn(usize) -> Vec<usize>) -> Result<Vec<Part>> {
        let find = |stem: &str, rows: usize| -> Result<String> {
            Ok(self.tensor(&format!("{stem}.{end}"), &shape(rows))?.name.into())
        };
        let head = stack.head_size;
        if let ([stem], QkvRows::PerHead) = (&stack.stems[..], stack.order) {
            let tensor = find(stem, stack.rows.iter().sum())?;
            let sections = stack.rows.len();
            let part = |section, h| Part {
                tensor: tensor.clone(),
                first_row: (h * sections + section) * head,
                rows: head,
                step: 1,
            };
            let heads = stack.rows[0] / head;
            return Ok((0..sections).flat_map(|s| (0..heads).map(move |h| (s, h))).map(|(s, h)| part(s, h)).collect());
        }
        let fused = stack.stems.len() == 1;
        let whole = stack.rows.iter().sum();
        let (mut parts, mut above) = (Vec::new(), 0);
        for (section, &rows) in stack.rows.iter().enumerate() {
            let tensor = if fused { find(&stack.stems[0], whole)? } else { find(&stack.stems[section], rows)? };
            let first = if fused { above } else { 0 };
            let part = |first_row, rows, step| Part { tensor: tensor.clone(), first_row, rows, step };
            if stack.order == QkvRows::Interleaved && section < 2 {
                let half = |h: usize, half| part(first + h * head + half, head / 2, 2);
                parts.extend((0..rows / head).flat_map(|h| [half(h, 0), half(h, 1)]));
            } else {
                parts.push(part(first, rows, 1));
            }
            above += rows;
        }
        Ok(parts)
    }

    fn norm_if(&mut self, there: bool, spec: &Spec, stem: &str) -> Result<Option<Norm>> {
        there.then(|| self.norm(stem, spec.hidden_size, spec.norm)).transpose()
    }

    /// γ and β, under their present or their old names.
    fn norm(&mut self, stem: &str, columns: usize, kind: NormKind) -> Result<Norm> {
        let old = self.source().get(&format!("{}{stem}.gamma", self.prefix)).is_some();
        let (gamma, beta) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let gamma = self.vector(&format!("{stem}.{gamma}"), columns)?;
        let beta = match kind {
            NormKind::Layer => Some(self.vector(&format!("{stem}.{beta}"), columns)?),
            _ => None,
        };
        Ok(Norm { gamma, beta })
    }

    fn block(&mut self, names: &Names, spec: &Spec, l: usize) -> Result<Block> {
        let prefix = names.block.replace("{l}", &l.to_string());
        let stem = |name: &str| format!("{prefix}{name}");
        let d = spec.hidden_size;
        let (heads, shared) = (spec.num_attention_heads * spec.head_size, spec.num_key_value_heads * spec.head_size);
        let stack = |names_of: &[&str], rows: Vec<usize>| Stack {
            stems: names_of.iter().map(|name| stem(name)).collect(),
            rows,
            order: QkvRows::Stacked,
            head_size: spec.head_size,
            transposed: names.transposed,
        };
        let qkv = Stack { order: names.qkv_rows, ..stack(names.qkv, vec![heads, shared, shared]) };
        let up = stack(names.up, vec![spec.intermediate_size; if spec.gated { 2 } else { 1 }]);
        let before = spec.placement != Placement::After;
        let after = matches!(spec.placement, Placement::After | Placement::Around);
        let attention_norm = before && spec.blocks[l].attention_norm;
        let gammas = match spec.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some([spec.head_size; 2]),
            QkNorm::Row => Some([heads, shared]),
        };
        // the order in which a missing tensor is named is the order in which the block uses them
        let qkv = self.linear(&qkv, d, spec.biases.qkv)?;
        Ok(Block {
            attention_norm: self.norm_if(attention_norm, spec, &stem(names.attention_norm))?,
            qkv,
            qk_norms: match gammas {
                None => None,
                Some([q, k]) => Some([
                    self.vector(&stem(&format!("{}.weight", names.qk_norms[0])), q)?,
                    self.vector(&stem(&format!("{}.weight", names.qk_norms[1])), k)?,
                ]),
            },
            o: self.linear(&stack(&[names.o], vec![d]), heads, spec.biases.o)?,
            attention_post_norm: self.norm_if(after, spec, &stem(names.attention_post_norm))?,
            mlp_norm: self.norm_if(before, spec, &stem(names.mlp_norm))?,
            up: self.linear(&up, d, spec.biases.mlp)?,
            down: self.linear(&stack(&[names.down], vec![d]), spec.intermediate_size, spec.biases.mlp)?,
            mlp_post_norm: self.norm_if(after, spec, &stem(names.mlp_post_norm))?,
        })
    }

    fn dense(&mut self, source: usize, config: &DenseConfig) -> Result<Dense> {
        use crate::files::Activation as Named;
        self.source = source;
        self.prefix = "";
        let stack = Stack {
            stems: vec!["linear".into()],
            rows: vec![config.out_features],
            order: QkvRows::Stacked,
            head_size: 0,
            transposed: false,
        };
        let linear = self.linear(&stack, config.in_features, config.bias)?;
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

/// Matrices that stand one below the other: a tensor each, or one for all of them.
struct Stack {
    stems: Vec<String>,
    /// Of each matrix.
    rows: Vec<usize>,
    order: QkvRows,
    head_size: usize,
    /// Stored `[in, out]`.
    transposed: bool,
}

/// Of parts that stand one below the other, those that make up `count` rows from `first` on.
fn slice_parts(parts: &[Part], first: usize, count: usize) -> Vec<Part> {
    let mut slice = Vec::new();
    let mut begin = 0;
    for part in parts {
        let from = first.max(begin);
        let to = (first + count).min(begin + part.rows);
        if from < to {
            let first_row = part.first_row + (from - begin) * part.step;
            slice.push(Part { tensor: part.tensor.clone(), first_row, rows: to - from, step: part.step });
        }
        begin += part.rows;
    }
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_stacked_tensors() {
        let all = ["q", "k", "v"].map(|name| Part { tensor: name.into(), first_row: 10, rows: 5, step: 1 });
        let parts = |first, count| {
            slice_parts(&all, first, count).into_iter().map(|p| (p.tensor, p.first_row, p.rows)).collect::<Vec<_>>()
        };
        assert_eq!(parts(0, 15), [("q".into(), 10, 5), ("k".into(), 10, 5), ("v".into(), 10, 5)]);
        assert_eq!(parts(4, 7), [("q".into(), 14, 1), ("k".into(), 10, 5), ("v".into(), 10, 1)]);
        assert_eq!(parts(10, 2), [("v".into(), 10, 2)]);
    }
}
