//! Random-weight models in memory, and their forward in f64, composed of the references: the oracle of the pieces.

use super::random::{Random, bytes, stored_values, widen};
use crate::files::Pooling;
use crate::kernels::WeightType;
use crate::kernels::attention::{Heads, RelativeBias};
use crate::kernels::matmul::Activation;
use crate::kernels::rope;
use crate::model::{
    Block, Chunk, Dense, Linear, LogitHead, MaskedHead, Matrix, Norm, NormKind, Placement, Positions, QkNorm, Rope,
    Scaling, Spec, Tensors, Transform,
};
use crate::reference::{self, AttentionInput, Span};
use crate::schedule::{Input, Slot};
use crate::stream::{Kind, Point};

/// A model whose weights are random.
pub struct Model {
    pub spec: Spec,
    pub tensors: Tensors,
    /// By the number of the slot, as they are stored: large models' values do not fit into memory all at once.
    pub weights: Vec<Vec<u8>>,
}

/// What passed the points of a forward over one sequence, `[tokens, …]`.
pub struct Passed {
    pub points: Vec<(Point, Vec<f64>)>,
    /// After the last block.
    pub stream: Vec<f64>,
}

struct Builder<'a> {
    random: &'a mut Random,
    weights: Vec<Vec<u8>>,
    weight_type: WeightType,
    /// Of a matrix's chunk; nothing for two chunks, as a large matrix has.
    most_bytes: Option<usize>,
}

impl Builder<'_> {
    fn keep(&mut self, weight: Vec<u8>) -> Slot {
        self.weights.push(weight);
        Slot::Weight(self.weights.len() - 1)
    }

    fn vector(&mut self, n: usize, center: f32, spread: f32) -> Slot {
        let values = self.random.values(n, center, spread);
        self.keep(bytes(&values))
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Matrix {
        let weight_type = self.weight_type;
        let fitting = |most: usize| most / weight_type.row_bytes(weight_type.stride(columns));
        let step = self.most_bytes.map_or(rows.div_ceil(2), fitting).clamp(1, rows);
        self.chunked(rows, columns, step)
    }

    /// In chunks of so many rows.
    fn chunked(&mut self, rows: usize, columns: usize, step: usize) -> Matrix {
        let weight_type = self.weight_type;
        let ranges = (0..rows).step_by(step).map(|first| (first, step.min(rows - first)));
        let chunks = ranges.map(|(first_row, rows)| {
            let (weight, _) = self.random.weight(rows, columns, weight_type);
            Chunk { slot: self.keep(weight), weight_type, first_row, rows }
        });
        Matrix { rows, columns, chunks: chunks.collect() }
    }

    fn linear(&mut self, rows: usize, columns: usize, bias: bool) -> Linear {
        let weight = self.matrix(rows, columns);
        self.biased(weight, bias)
    }

    fn biased(&mut self, weight: Matrix, bias: bool) -> Linear {
        let bias = weight.chunks.iter().filter(|_| bias).map(|chunk| self.vector(chunk.rows, 0.0, 0.5));
        Linear { bias: bias.collect(), weight }
    }

    /// γ is small, so that products with weights of about 1 are of about 1 again and no softmax saturates.
    fn norm(&mut self, spec: &Spec) -> Norm {
        let d = spec.hidden_size;
        let size = (3.0 / d as f32).sqrt();
        let stored_less_one = if spec.norm == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
        Norm {
            gamma: self.vector(d, size - stored_less_one, size / 2.0),
            beta: (spec.norm == NormKind::Layer).then(|| self.vector(d, 0.0, size / 2.0)),
        }
    }

    /// What makes logits: a language model's head, or one for masked tokens.
    fn head(&mut self, spec: &Spec, words: &Matrix) -> Option<LogitHead> {
        let d = spec.hidden_size;
        let transform = spec.masked_head.map(|MaskedHead { activation, dense_bias, .. }| {
            let (dense, norm) = (self.linear(d, d, dense_bias), self.norm(spec));
            Transform { dense, activation, norm }
        });
        let (tied, bias) = match (spec.head, spec.masked_head) {
            (Some(head), _) => (head.tied, false),
            (None, Some(head)) => (head.tied, head.bias),
            (None, None) => return None,
        };
        let weight = if tied { words.clone() } else { self.matrix(spec.vocab_size, d) };
        Some(LogitHead { transform, decoder: self.biased(weight, bias) })
    }

    /// Behind the pooling of two modes.
    fn dense(&mut self, d: usize) -> Dense {
        Dense { linear: self.linear(d / 2, 2 * d, true), activation: Activation::Tanh }
    }

    /// The FFN's first matrix: of decoders with gates in one chunk, so that products apply them where there are no biases.
    fn up(&mut self, spec: &Spec) -> Linear {
        let (rows, d) = (spec.intermediate_size * if spec.gated { 2 } else { 1 }, spec.hidden_size);
        let weight = match spec.gated && spec.is_decoder() && self.most_bytes.is_none() {
            true => self.chunked(rows, d, rows),
            false => self.matrix(rows, d),
        };
        self.biased(weight, spec.biases.mlp)
    }

    fn block(&mut self, spec: &Spec, l: usize) -> Block {
        let (d, ffn, z) = (spec.hidden_size, spec.intermediate_size, spec.num_attention_heads * spec.head_size);
        let (before, after) = match spec.placement {
            Placement::Post | Placement::Pre | Placement::Parallel => (true, false),
            Placement::Around => (true, true),
            Placement::After => (false, true),
        };
        let less = if spec.norm == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
        let widths = match spec.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some([spec.head_size; 2]),
            QkNorm::Row => Some([z, spec.num_key_value_heads * spec.head_size]),
        };
        Block {
            attention_norm: (before && spec.blocks[l].attention_norm).then(|| self.norm(spec)),
            qkv: self.linear(spec.qkv_width(), d, spec.biases.qkv),
            qk_norms: widths.map(|widths| widths.map(|width| self.vector(width, 0.7 - less, 0.3))),
            o: self.linear(d, z, spec.biases.o),
            attention_post_norm: after.then(|| self.norm(spec)),
            mlp_norm: before.then(|| self.norm(spec)),
            up: self.up(spec),
            down: self.linear(d, ffn, spec.biases.mlp),
            mlp_post_norm: after.then(|| self.norm(spec)),
        }
    }
}

impl Model {
    /// With weights stored like that; norms, biases and positions are f32 as in any model.
    pub fn new(spec: Spec, weight_type: WeightType, random: &mut Random) -> Self {
        Self::within(spec, weight_type, random, None)
    }

    /// The same with chunks of so many bytes at most.
    pub fn within(spec: Spec, weight_type: WeightType, random: &mut Random, most_bytes: Option<usize>) -> Self {
        let mut builder = Builder { random, weights: Vec::new(), weight_type, most_bytes };
        let d = spec.hidden_size;
        let words = builder.matrix(spec.vocab_size, d);
        let table = spec.positions != Positions::Rotary;
        let tensors = Tensors {
            positions: table.then(|| builder.vector(spec.max_position_embeddings * d, 0.0, 0.5)),
            types: (spec.type_vocab_size > 0).then(|| builder.vector(spec.type_vocab_size * d, 0.0, 0.5)),
            embedding_norm: spec.embedding_norm.then(|| builder.norm(&spec)),
            relative_bias: spec.relative_bias.map(|_| {
                let reach = spec.max_position_embeddings;
                let table = builder.vector(spec.num_attention_heads * (2 * reach - 1), 0.0, 2.0);
                RelativeBias { table, reach }
            }),
            blocks: (0..spec.num_hidden_layers).map(|l| builder.block(&spec, l)).collect(),
            final_norm: spec.final_norm.then(|| builder.norm(&spec)),
            head: builder.head(&spec, &words),
            dense: if spec.is_decoder() { Vec::new() } else { vec![builder.dense(d)] },
            words,
        };
        Model { spec, tensors, weights: builder.weights }
    }

    /// A vector or a table, which are f32 in any model.
    /// A vector that is stored as f32.
    pub fn vector_of(&self, slot: Slot) -> Vec<f32> {
        self.values(slot).into_iter().map(|x| x as f32).collect()
    }

    fn values(&self, slot: Slot) -> Vec<f64> {
        match slot {
            Slot::Weight(i) => widen(&bytemuck::pod_collect_to_vec::<u8, f32>(&self.weights[i])),
            _ => Vec::new(),
        }
    }

    /// cos and sin of each position's pairs, as the host gives them to the kernels.
    pub fn angles(&self, rope: usize, tokens: usize, positions: std::ops::Range<usize>) -> Vec<f32> {
        let rope = &self.spec.ropes[rope];
        let frequencies = rope.frequencies(tokens);
        let mut angles = Vec::new();
        positions.for_each(|position| rope.angles(&frequencies, position as u32, &mut angles));
        angles
    }

    /// Runs one sequence.
    pub fn forward(&self, ids: &[u32]) -> Passed {
        let (spec, t) = (&self.spec, &self.tensors);
        let tokens: Vec<[u32; 4]> =
            ids.iter().zip(spec.positions_of(ids)).map(|(&id, position)| [id, position, 0, 0]).collect();
        let table = |slot: Option<Slot>| slot.map_or(Vec::new(), |slot| self.values(slot));
        let (words, scale) = (self.rows_of(&t.words), f64::from(spec.embedding_scale));
        let d = spec.hidden_size;
        let (positions, types) = (table(t.positions), table(t.types));
        let mut x = reference::embed(&tokens, &words, &positions, &types, d, scale);
        // each table alone
        let alone = [
            (Kind::TokEmbed, reference::embed(&tokens, &words, &[], &[], d, scale)),
            (Kind::PosEmbed, reference::embed(&tokens, &words, &positions, &[], d, 0.0)),
            (Kind::TypeEmbed, reference::embed(&tokens, &words, &[], &types, d, 0.0)),
        ];
        if let Some(norm) = t.embedding_norm {
            x = self.norm(&x, norm);
        }
        let mut points: Vec<_> = alone.map(|(kind, x)| (Point::new(0, kind), x)).into();
        points.push((Point::new(0, Kind::Embed), x.clone()));
        for (l, block) in t.blocks.iter().enumerate() {
            x = self.block(l, block, x, &mut points);
        }
        let normed = t.final_norm.map(|norm| self.norm(&x, norm));
        if let Some(LogitHead { transform, decoder }) = &t.head {
            let mut rows = normed.as_ref().unwrap_or(&x).clone();
            if let Some(Transform { dense, activation, norm }) = transform {
                rows = self.norm(&self.linear(&rows, dense, *activation), *norm);
            }
            let mut logits = self.linear(&rows, decoder, Activation::None);
            if let Some(cap) = spec.head.and_then(|head| head.cap) {
                logits = reference::soft_cap(&logits, f64::from(cap));
            }
            points.push((Point::new(0, Kind::Logits), logits));
        }
        if let Some(normed) = normed {
            points.push((Point::new(0, Kind::FinalNormalized), normed));
        }
        Passed { points, stream: x }
    }

    /// The vector of a text by its last rows.
    pub fn vector(&self, rows: &[f64], modes: &[Pooling]) -> Vec<f64> {
        let d = self.spec.hidden_size;
        let mut vector: Vec<f64> = modes.iter().flat_map(|&mode| reference::pool(rows, d, 0, mode)).collect();
        for Dense { linear, activation } in &self.tensors.dense {
            vector = self.linear(&vector, linear, *activation);
        }
        reference::l2_normalize(&vector, vector.len())
    }

    fn block(&self, l: usize, block: &Block, mut x: Vec<f64>, points: &mut Vec<(Point, Vec<f64>)>) -> Vec<f64> {
        let spec = &self.spec;
        let post = spec.placement == Placement::Post;
        let mut pass = |kind, x: &[f64]| points.push((Point::new(l, kind), x.to_vec()));
        let normed = |x: &[f64], norm: Option<Norm>| norm.map_or(x.to_vec(), |norm| self.norm(x, norm));
        let before = |x: &[f64], norm: Option<Norm>| normed(x, norm.filter(|_| !post));
        pass(Kind::ResidPre, &x);
        let z = self.attend(l, block, &before(&x, block.attention_norm), &mut pass);
        pass(Kind::Z, &z);
        let split = reference::split_heads(&z, spec.num_attention_heads, spec.head_size, 0..spec.num_attention_heads);
        pass(Kind::Result, &self.product(&split, &block.o.weight, &[], Activation::None));
        pass(Kind::AttnSkip, &x);
        let term = normed(&self.linear(&z, &block.o, Activation::None), block.attention_post_norm);
        pass(Kind::AttnOut, &term);
        let mid = reference::residual_add(&x, &term);
        if spec.placement == Placement::Parallel {
            pass(Kind::MlpSkip, &mid);
            let term = self.mlp(block, &before(&x, block.mlp_norm));
            pass(Kind::MlpOut, &term);
            x = reference::residual_add(&mid, &term);
        } else {
            pass(Kind::ResidMid, &mid);
            let mid = if post { normed(&mid, block.attention_norm) } else { mid };
            if post {
                pass(Kind::NormalizedResidMid, &mid);
            }
            pass(Kind::MlpSkip, &mid);
            let term = normed(&self.mlp(block, &before(&mid, block.mlp_norm)), block.mlp_post_norm);
            pass(Kind::MlpOut, &term);
            x = reference::residual_add(&mid, &term);
        }
        pass(Kind::ResidPost, &x);
        if post {
            x = normed(&x, block.mlp_norm);
            pass(Kind::NormalizedResidPost, &x);
        }
        x
    }

    fn attend(&self, l: usize, block: &Block, input: &[f64], pass: &mut dyn FnMut(Kind, &[f64])) -> Vec<f64> {
        let spec = &self.spec;
        let (heads, kv_heads, head_size) = (spec.num_attention_heads, spec.num_key_value_heads, spec.head_size);
        let (width, shared, stride) = (heads * head_size, kv_heads * head_size, spec.qkv_width());
        let mut qkv = self.linear(input, &block.qkv, Activation::None);
        let columns = |rows: &[f64], from: usize, to: usize| -> Vec<f64> {
            rows.chunks_exact(stride).flat_map(|row| &row[from..to]).copied().collect()
        };
        pass(Kind::Q, &columns(&qkv, 0, width));
        pass(Kind::K, &columns(&qkv, width, width + shared));
        pass(Kind::V, &columns(&qkv, width + shared, stride));
        if let Some(gammas) = block.qk_norms {
            for (gamma, range) in gammas.into_iter().zip([0..width, width..width + shared]) {
                for row in qkv.chunks_exact_mut(stride) {
                    let part = &mut row[range.clone()];
                    part.copy_from_slice(&self.rms(part, gamma));
                }
            }
        }
        let tokens = qkv.len() / stride;
        if let Some(number) = spec.blocks[l].rope {
            let scaled = spec.ropes[number].scaling != Scaling::None || spec.ropes[number].attention_factor != 1.0;
            // the scalings of models from files are held against Hugging Face's
            let angles = if scaled {
                widen(&self.angles(number, tokens, 0..tokens))
            } else {
                turns(&spec.ropes[number], tokens)
            };
            let pairs = spec.ropes[number].pairs;
            let (interleaved, angle_input, rows, first) = (false, Input::Angles, Slot::Scratch(0), 0);
            let heads = heads + kv_heads;
            let turn = rope::Rope { interleaved, angles: angle_input, rows, stride, first, heads, head_size, pairs };
            qkv = reference::rope(&qkv, &angles, &turn);
        }
        let heads = Heads {
            q: Slot::Scratch(0),
            q_stride: stride,
            first_q: 0,
            kv: Slot::Scratch(0),
            kv_stride: stride,
            first_k: width,
            first_v: width + shared,
            heads,
            kv_heads,
            head_size,
            scale: spec.blocks[l].scale,
            cap: spec.attention_cap,
            mask: spec.blocks[l].mask,
        };
        let (bias, reach) = self.tensors.relative_bias.map_or((Vec::new(), 1), |b| (self.values(b.table), b.reach));
        let input = AttentionInput { heads, q: &qkv, kv: &qkv, bias: &bias, reach };
        reference::attention(&input, &Span::whole(&[tokens]))
    }

    fn mlp(&self, block: &Block, input: &[f64]) -> Vec<f64> {
        let Spec { activation, gated, intermediate_size, .. } = self.spec;
        let hidden = if gated {
            let gate_up = self.linear(input, &block.up, Activation::None);
            reference::gate(&gate_up, intermediate_size, activation)
        } else {
            self.linear(input, &block.up, activation)
        };
        self.linear(&hidden, &block.down, Activation::None)
    }

    fn norm(&self, x: &[f64], norm: Norm) -> Vec<f64> {
        match self.spec.norm {
            NormKind::Rms | NormKind::RmsPlusOne => self.rms(x, norm.gamma),
            NormKind::Layer | NormKind::LayerNoBias => {
                let gamma = self.values(norm.gamma);
                let beta = norm.beta.map_or_else(|| vec![0.0; gamma.len()], |beta| self.values(beta));
                reference::layer_norm(x, &gamma, &beta, f64::from(self.spec.norm_eps))
            }
        }
    }

    fn rms(&self, x: &[f64], gamma: Slot) -> Vec<f64> {
        let more = if self.spec.norm == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
        let gamma: Vec<f64> = self.values(gamma).iter().map(|g| g + more).collect();
        reference::rms_norm(x, &gamma, f64::from(self.spec.norm_eps))
    }

    /// A matrix's rows, `[rows, columns]`.
    fn rows_of(&self, matrix: &Matrix) -> Vec<f64> {
        let stored = |chunk: &Chunk| match chunk.slot {
            Slot::Weight(i) => stored_values(chunk.weight_type, &self.weights[i], chunk.rows, matrix.columns),
            _ => Vec::new(),
        };
        matrix.chunks.iter().flat_map(stored).collect()
    }

    fn linear(&self, x: &[f64], linear: &Linear, activation: Activation) -> Vec<f64> {
        let bias: Vec<f64> = linear.bias.iter().flat_map(|slot| self.values(*slot)).collect();
        self.product(x, &linear.weight, &bias, activation)
    }

    fn product(&self, x: &[f64], matrix: &Matrix, bias: &[f64], activation: Activation) -> Vec<f64> {
        reference::matmul(x, &self.rows_of(matrix), bias, matrix.rows, matrix.columns, activation)
    }
}

/// cos and sin of each position's pairs, as they are defined; the host's f32 are beside them.
fn turns(rope: &Rope, tokens: usize) -> Vec<f64> {
    let (theta, dims) = (f64::from(rope.theta), rope.dims as f64);
    let angle = |position: usize, pair: usize| position as f64 * theta.powf(-2.0 * pair as f64 / dims);
    let angles = (0..tokens).flat_map(|position| (0..rope.pairs).map(move |pair| angle(position, pair)));
    angles.flat_map(|angle| [angle.cos(), angle.sin()]).collect()
}
