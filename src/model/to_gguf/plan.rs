//! Which tensors a GGUF file has, and what each is made of: plain data, before anything is written.

use super::architecture::Architecture;
use super::keys::Factors;
use super::names::{Role, stem};
use crate::error::{Error, Result};
use crate::files::{Checkpoint, Dtype, GgmlType, GgufTensorOut, TensorInfo};
use crate::model::from_gguf;
use crate::model::{Names, NormKind, Placement, Positions, QkNorm, Spec};

/// A tensor to be written.
#[derive(Debug)]
pub struct Job {
    /// What it is in the file.
    pub out: GgufTensorOut,
    /// What it is made of.
    pub source: Source,
}

/// What a tensor is made of.
#[derive(Debug)]
pub enum Source {
    /// A tensor of the checkpoint.
    Tensor(String, Change),
    /// Numbers.
    Values(Vec<f32>),
}

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is stored `[columns, rows]`.
    Transpose,
    /// Of each head of so many rows, those that turn together become neighbours: they are half a head apart.
    Neighbours(usize),
    /// 1 is added.
    PlusOne,
}

/// How a tensor is stored where the file is of type `to`.
fn stored(to: GgmlType, columns: usize) -> GgmlType {
    match to.block() {
        Some((block, _)) if !(columns as u64).is_multiple_of(block) => GgmlType::F16,
        _ => to,
    }
}

/// All tensors of a file, in its order.
pub fn plan(
    arch: &Architecture,
    spec: &Spec,
    names: &Names,
    checkpoint: &Checkpoint,
    factors: Factors,
    to: GgmlType,
) -> Result<Vec<Job>> {
    let mut planner = Planner { arch, spec, names, checkpoint, to, prefix: "", jobs: Vec::new() };
    planner.prefix = planner.find_prefix()?;
    planner.words_and_head()?;
    let d = spec.hidden_size;
    if spec.positions == Positions::FromZero {
        planner.small(Role::Positions, spec.max_position_embeddings)?;
    }
    if spec.type_vocab_size > 0 {
        planner.small(Role::Types, spec.type_vocab_size)?;
    }
    if spec.embedding_norm {
        planner.norm(Role::EmbeddingNorm, 0, d)?;
    }
    for l in 0..spec.num_hidden_layers {
        planner.block(l)?;
    }
    if spec.final_norm {
        planner.norm(Role::FinalNorm, 0, d)?;
    }
    for (name, values) in factors {
        let out = GgufTensorOut { name: name.into(), ggml_type: GgmlType::F32, shape: vec![values.len()] };
        planner.jobs.push(Job { out, source: Source::Values(values) });
    }
    Ok(planner.jobs)
}

struct Planner<'a> {
    arch: &'a Architecture,
    spec: &'a Spec,
    names: &'a Names,
    checkpoint: &'a Checkpoint,
    to: GgmlType,
    prefix: &'static str,
    jobs: Vec<Job>,
}

impl Planner<'_> {
    fn find_prefix(&self) -> Result<&'static str> {
        let first = self.names.block.replace("{l}", "0") + self.names.qkv.first().unwrap_or(&"");
        let known = |prefix: &&&'static str| {
            let there = |stem: &str| self.checkpoint.get(&format!("{prefix}{stem}.weight")).is_some();
            there(self.names.words) || there(&first)
        };
        self.names.prefixes.iter().find(known).copied().ok_or_else(|| self.missing(self.names.words))
    }

    fn missing(&self, name: &str) -> Error {
        Error::file(self.checkpoint.dir(), format!("tensor {name} is missing"))
    }

    /// The tensor of that name, with a shape that must be as given.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let info = self.checkpoint.get(name).ok_or_else(|| self.missing(name))?;
        if info.shape != shape {
            return Err(self.checkpoint.error(info, format!("expected shape {shape:?}, found {:?}", info.shape)));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            let what = format!("tensor {name} of type {}; weights are F32, F16 or BF16", info.dtype.name());
            return Err(Error::unsupported(self.checkpoint.path_of(info), what));
        }
        Ok(info)
    }

    /// Adds the tensor called `from`, `shape` as it is in the file, outermost first.
    fn push(&mut self, name: String, from: String, ggml_type: GgmlType, shape: &[usize], change: Change) -> Result<()> {
        let there = match (change, shape) {
            (Change::Transpose, [rows, columns]) => vec![*columns, *rows],
            _ => shape.to_vec(),
        };
        self.tensor(&from, &there)?;
        let out = GgufTensorOut { name, ggml_type, shape: shape.into() };
        self.jobs.push(Job { out, source: Source::Tensor(from, change) });
        Ok(())
    }

    /// A role's names in the file and in the checkpoint, without their ends.
    fn name(&self, role: Role, l: usize) -> (String, String) {
        let outside = [Role::Words, Role::Positions, Role::Types, Role::EmbeddingNorm, Role::FinalNorm, Role::Head];
        let name = |names: &Names| {
            let block =
                if outside.contains(&role) { String::new() } else { names.block.replace("{l}", &l.to_string()) };
            block + stem(role, names)
        };
        let theirs = from_gguf::names(self.arch.name, self.names.qkv.len() == 1);
        (name(&theirs), self.prefix.to_string() + &name(self.names))
    }

    /// A matrix `[rows, columns]` with its bias.
    fn linear(&mut self, role: Role, l: usize, [rows, columns]: [usize; 2], bias: bool) -> Result<()> {
        let (gguf, from) = self.name(role, l);
        let turned = self.arch.neighbours && matches!(role, Role::Q | Role::K);
        let rearranged = if turned { Change::Neighbours(self.spec.head_size) } else { Change::None };
        let change = if self.names.transposed { Change::Transpose } else { rearranged };
        let ggml_type = stored(self.to, columns);
        self.push(format!("{gguf}.weight"), format!("{from}.weight"), ggml_type, &[rows, columns], change)?;
        if bias {
            self.push(format!("{gguf}.bias"), format!("{from}.bias"), GgmlType::F32, &[rows], rearranged)?;
        }
        Ok(())
    }

    /// A small table, which is always f32.
    fn small(&mut self, role: Role, rows: usize) -> Result<()> {
        let (gguf, from) = self.name(role, 0);
        let shape = [rows, self.spec.hidden_size];
        self.push(format!("{gguf}.weight"), format!("{from}.weight"), GgmlType::F32, &shape, Change::None)
    }

    /// γ and β, in the checkpoint under their present or their old names.
    fn norm(&mut self, role: Role, l: usize, columns: usize) -> Result<()> {
        let (gguf, from) = self.name(role, l);
        let old = self.checkpoint.get(&format!("{from}.gamma")).is_some();
        let (gamma, beta) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let change = if self.spec.norm == NormKind::RmsPlusOne { Change::PlusOne } else { Change::None };
        self.push(format!("{gguf}.weight"), format!("{from}.{gamma}"), GgmlType::F32, &[columns], change)?;
        if self.spec.norm == NormKind::Layer {
            self.push(format!("{gguf}.bias"), format!("{from}.{beta}"), GgmlType::F32, &[columns], Change::None)?;
        }
        Ok(())
    }

    fn block(&mut self, l: usize) -> Result<()> {
        let spec = self.spec;
        let d = spec.hidden_size;
        let (heads, shared) = (spec.num_attention_heads * spec.head_size, spec.num_key_value_heads * spec.head_size);
        let biases = spec.biases;
        let around = spec.placement == Placement::Around;
        self.norm(Role::AttentionNorm, l, d)?;
        if self.names.qkv.len() == 1 {
            self.linear(Role::Qkv, l, [heads + 2 * shared, d], biases.qkv)?;
        } else {
            self.linear(Role::Q, l, [heads, d], biases.qkv)?;
            self.linear(Role::K, l, [shared, d], biases.qkv)?;
            self.linear(Role::V, l, [shared, d], biases.qkv)?;
        }
        if spec.qk_norm == QkNorm::Head {
            self.norm(Role::QNorm, l, spec.head_size)?;
            self.norm(Role::KNorm, l, spec.head_size)?;
        }
        self.linear(Role::O, l, [d, heads], biases.o)?;
        if around {
            self.norm(Role::AttentionPostNorm, l, d)?;
        }
        self.norm(Role::MlpNorm, l, d)?;
        let wide = spec.intermediate_size;
        if self.names.up.len() == 2 {
            self.linear(Role::Gate, l, [wide, d], biases.mlp)?;
        }
        let fused = if spec.gated && self.names.up.len() == 1 { 2 } else { 1 };
        self.linear(Role::Up, l, [fused * wide, d], biases.mlp)?;
        self.linear(Role::Down, l, [d, wide], biases.mlp)?;
        if around {
            self.norm(Role::MlpPostNorm, l, d)?;
        }
        Ok(())
    }

    /// The word table, and the head where it is not the word table again.
    fn words_and_head(&mut self) -> Result<()> {
        let shape = [self.spec.vocab_size, self.spec.hidden_size];
        let (gguf, words) = self.name(Role::Words, 0);
        let words = format!("{words}.weight");
        let head = self.names.heads.iter().find(|name| self.checkpoint.get(name).is_some()).copied();
        let tied = self.spec.head.is_none_or(|head| head.tied);
        let (words, head) = match head {
            _ if self.spec.head.is_none() => (words, None),
            None if tied => (words, None),
            None => return Err(self.missing(&self.names.heads.join(" or "))),
            Some(head) if tied && self.checkpoint.get(&words).is_none() => (head.to_string(), None),
            Some(head) if tied && self.same(self.tensor(&words, &shape)?, self.tensor(head, &shape)?)? => (words, None),
            Some(head) => (words, Some(head)),
        };
        let ggml_type = stored(self.to, shape[1]);
        self.push(format!("{gguf}.weight"), words, ggml_type, &shape, Change::None)?;
        let Some(head) = head else { return Ok(()) };
        if self.arch.capped {
            let what = format!("a head of its own, which the architecture {} does not have", self.arch.name);
            return Err(Error::unsupported(self.checkpoint.dir(), what));
        }
        let (gguf, _) = self.name(Role::Head, 0);
        self.push(format!("{gguf}.weight"), head.into(), ggml_type, &shape, Change::None)
    }

    /// Whether two tensors are the same bytes.
    fn same(&self, a: &TensorInfo, b: &TensorInfo) -> Result<bool> {
        if (a.dtype, a.bytes) != (b.dtype, b.bytes) {
            return Ok(false);
        }
        const STEP: u64 = 1 << 20;
        let (mut left, mut right) = (vec![0; STEP as usize], vec![0; STEP as usize]);
        for offset in (0..a.bytes).step_by(STEP as usize) {
            let length = STEP.min(a.bytes - offset) as usize;
            self.checkpoint.read(a, offset, &mut left[..length])?;
            self.checkpoint.read(b, offset, &mut right[..length])?;
            if left[..length] != right[..length] {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
