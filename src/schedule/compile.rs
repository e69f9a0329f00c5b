//! From a model's spec to a recording: the list of dispatches of one forward, compiled for the points asked of it.

use super::recording::{Bounds, Capture, Command, Dim, Dispatch, Extent, Recording, Scratch, Slot};
use crate::files::Pooling;
use crate::gpu::Capabilities;
use crate::kernels::Reduce;
use crate::kernels::attention::{self, Attention, Heads, Mask};
use crate::kernels::attention_scores::AttentionScores;
use crate::kernels::embed::Embed;
use crate::kernels::l2_normalize::L2Normalize;
use crate::kernels::layer_norm::{self, LayerNorm};
use crate::kernels::matmul::{self, Activation, MatMul, Output};
use crate::kernels::pool::Pool;
use crate::kernels::residual_add::ResidualAdd;
use crate::kernels::softmax::Softmax;
use crate::model::{Dense, Linear, Norm, Spec, Tensors};
use crate::stream::{Kind, Point};

/// Which variants an adapter runs: the same for every batch, so that every batch sums in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// Tiling of products.
    pub matmul: matmul::Form,
    /// Sums over rows.
    pub reduce: Reduce,
}

impl Choices {
    /// The defaults of an adapter.
    pub fn of(capabilities: &Capabilities) -> Self {
        Choices { matmul: matmul::Form::choose(capabilities), reduce: Reduce::choose(capabilities) }
    }
}

/// What becomes of the stream after the last block.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Pooling modes, side by side.
    pub pooling: Vec<Pooling>,
    /// Whether the result is scaled to length 1.
    pub normalize: bool,
}

/// Records a forward of a post-norm encoder. Without a head nothing but the captures comes back.
pub fn record(spec: &Spec, tensors: &Tensors, head: Option<&Head>, choices: Choices, points: &[Point]) -> Recording {
    let recording = Recording {
        commands: Vec::new(),
        d_model: spec.hidden_size,
        scratch: Vec::new(),
        captures: Vec::new(),
        output: None,
        tile: attention::tile(spec.head_size),
        bounds: Bounds {
            ids: spec.vocab_size as u32,
            positions: spec.max_position_embeddings as u32,
            types: spec.type_vocab_size.max(1) as u32,
        },
    };
    let mut recorder = Recorder { spec, choices, points, recording };
    recorder.embed(tensors);
    recorder.blocks(tensors);
    if let Some(head) = head {
        recorder.head(head, &tensors.dense);
    }
    recorder.recording
}

struct Recorder<'a> {
    spec: &'a Spec,
    choices: Choices,
    points: &'a [Point],
    recording: Recording,
}

impl Recorder<'_> {
    fn push(&mut self, dispatch: Dispatch) {
        self.recording.commands.push(Command::Dispatch(dispatch));
    }

    fn scratch(&mut self, name: &'static str, times: usize, dim: Dim) -> Slot {
        self.recording.scratch.push(Scratch { name, size: Extent::new(times as u64, dim) });
        Slot::Scratch(self.recording.scratch.len() - 1)
    }

    fn wants(&self, block: usize, kind: Kind) -> bool {
        self.points.contains(&Point::new(block, kind))
    }

    /// Captures the rows of a buffer for those of the points that were asked for; each point is a range of columns.
    fn tap(&mut self, block: usize, from: Slot, columns: usize, kinds: &[(Kind, std::ops::Range<usize>)]) {
        let points: Vec<_> = kinds
            .iter()
            .filter(|(kind, _)| self.wants(block, *kind))
            .map(|(kind, range)| (Point::new(block, *kind), range.clone()))
            .collect();
        if !points.is_empty() {
            let size = Extent::new(columns as u64, Dim::Tokens);
            self.capture(Capture { from, size, columns, points });
        }
    }

    fn capture(&mut self, capture: Capture) {
        self.recording.captures.push(capture);
        self.recording.commands.push(Command::Capture(self.recording.captures.len() - 1));
    }

    /// Captures the stream, or a term of its width.
    fn tap_row(&mut self, block: usize, from: Slot, kind: Kind) {
        let d = self.spec.hidden_size;
        self.tap(block, from, d, &[(kind, 0..d)]);
    }

    fn embed(&mut self, tensors: &Tensors) {
        for chunk in &tensors.words.chunks {
            self.push(
                Embed {
                    weight: tensors.words.weight_type,
                    words: chunk.slot,
                    first_row: chunk.first_row,
                    rows: chunk.rows,
                    columns: self.spec.hidden_size,
                    positions: Some(tensors.positions),
                    types: tensors.types,
                }
                .dispatch(),
            );
        }
        self.norm(tensors.embedding_norm);
        self.tap_row(0, Slot::Stream, Kind::Embed);
        self.recording.commands.push(Command::Boundary);
    }

    fn norm(&mut self, norm: Norm) {
        self.push(
            LayerNorm {
                reduce: self.choices.reduce,
                gamma: norm.gamma,
                beta: norm.beta,
                columns: self.spec.hidden_size,
                eps: self.spec.layer_norm_eps,
                output: layer_norm::Output::InPlace,
            }
            .dispatch(),
        );
    }

    /// One product: a dispatch for each chunk of the weight.
    fn linear(&mut self, linear: &Linear, input: Slot, rows: Extent, activation: Activation, output: Output) {
        let Linear { weight, bias } = linear;
        for (i, chunk) in weight.chunks.iter().enumerate() {
            let dispatch = MatMul {
                form: self.choices.matmul,
                weight_type: weight.weight_type,
                input,
                rows,
                weight: chunk.slot,
                columns: chunk.rows,
                depth: weight.columns,
                bias: bias.get(i).copied(),
                activation,
                output,
                out_columns: weight.rows,
                out_first: chunk.first_row,
            }
            .dispatch();
            self.push(dispatch);
        }
    }

    /// A sublayer's last product. Fused, it adds its result into the stream; where that term itself is asked for, it is
    /// stored and added by a kernel of its own, which changes no bit of the sum.
    fn add_into_stream(&mut self, linear: &Linear, input: Slot, term: Slot, block: usize, kind: Kind) {
        if !self.wants(block, kind) {
            return self.linear(linear, input, MatMul::TOKENS, Activation::None, Output::AddToStream);
        }
        self.linear(linear, input, MatMul::TOKENS, Activation::None, Output::Store(term));
        self.tap_row(block, term, kind);
        self.push(ResidualAdd { term, columns: self.spec.hidden_size }.dispatch());
    }

    fn blocks(&mut self, tensors: &Tensors) {
        let spec = self.spec;
        let width = spec.num_attention_heads * spec.head_size;
        let qkv = self.scratch("qkv", 3 * width, Dim::Tokens);
        let z = self.scratch("z", width, Dim::Tokens);
        let hidden = self.scratch("ffn", spec.intermediate_size, Dim::Tokens);
        let asks = |kinds: &[Kind]| self.points.iter().any(|p| kinds.contains(&p.kind));
        let (terms, patterns) = (asks(&[Kind::AttnOut, Kind::MlpOut]), asks(&[Kind::Pattern]));
        // buffers that only instruments need
        let term = if terms { self.scratch("term", spec.hidden_size, Dim::Tokens) } else { z };
        let pattern = if patterns { self.scratch("pattern", spec.num_attention_heads, Dim::Pairs) } else { z };
        let heads = Heads {
            buffer: qkv,
            stride: 3 * width,
            first_q: 0,
            first_k: width,
            first_v: 2 * width,
            heads: spec.num_attention_heads,
            kv_heads: spec.num_attention_heads,
            head_size: spec.head_size,
            scale: 1.0 / (spec.head_size as f32).sqrt(),
            cap: None,
            mask: Mask::NONE,
        };
        for (l, block) in tensors.blocks.iter().enumerate() {
            self.tap_row(l, Slot::Stream, Kind::ResidPre);
            self.linear(&block.qkv, Slot::Stream, MatMul::TOKENS, Activation::None, Output::Store(qkv));
            let thirds = [(Kind::Q, 0..width), (Kind::K, width..2 * width), (Kind::V, 2 * width..3 * width)];
            self.tap(l, qkv, 3 * width, &thirds);
            self.pattern(l, heads, tensors, pattern);
            self.push(Attention { heads, bias: tensors.relative_bias, z }.dispatch());
            self.tap(l, z, width, &[(Kind::Z, 0..width)]);
            self.add_into_stream(&block.o, z, term, l, Kind::AttnOut);
            self.tap_row(l, Slot::Stream, Kind::ResidMid);
            self.norm(block.attention_norm);
            self.tap_row(l, Slot::Stream, Kind::NormalizedResidMid);
            self.linear(&block.up, Slot::Stream, MatMul::TOKENS, spec.activation, Output::Store(hidden));
            self.add_into_stream(&block.down, hidden, term, l, Kind::MlpOut);
            self.tap_row(l, Slot::Stream, Kind::ResidPost);
            self.norm(block.mlp_norm);
            self.tap_row(l, Slot::Stream, Kind::NormalizedResidPost);
            self.recording.commands.push(Command::Boundary);
        }
    }

    /// The pattern of a block, of queries and keys: attention itself stores none.
    fn pattern(&mut self, block: usize, heads: Heads, tensors: &Tensors, scores: Slot) {
        if !self.wants(block, Kind::Pattern) {
            return;
        }
        let count = heads.heads as u64;
        self.push(AttentionScores { heads, bias: tensors.relative_bias, scores }.dispatch());
        self.push(
            Softmax {
                reduce: self.choices.reduce,
                values: scores,
                rows: Extent::new(count, Dim::Tokens),
                columns: Extent::new(1, Dim::Tokens),
            }
            .dispatch(),
        );
        // one point, whose rows are whatever the reader makes of them
        self.capture(Capture {
            from: scores,
            size: Extent::new(count, Dim::Pairs),
            columns: 1,
            points: vec![(Point::new(block, Kind::Pattern), 0..1)],
        });
    }

    fn head(&mut self, head: &Head, dense: &[Dense]) {
        let d = self.spec.hidden_size;
        let mut columns = d * head.pooling.len();
        let mut vectors = self.scratch("pooled", columns, Dim::Sequences);
        for (i, &mode) in head.pooling.iter().enumerate() {
            let pool = Pool { mode, columns: d, pooled: vectors, out_columns: columns, out_first: i * d };
            self.push(pool.dispatch());
        }
        for layer in dense {
            columns = layer.linear.weight.rows;
            let output = self.scratch("dense", columns, Dim::Sequences);
            self.linear(&layer.linear, vectors, MatMul::SEQUENCES, layer.activation, Output::Store(output));
            vectors = output;
        }
        if head.normalize {
            self.push(L2Normalize { reduce: self.choices.reduce, values: vectors, columns }.dispatch());
        }
        self.recording.output = Some((vectors, Extent::new(columns as u64, Dim::Sequences)));
    }
}
