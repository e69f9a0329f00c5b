//! The blocks: attention, FFN, and what they add into the stream.

use std::ops::Range;

use super::seen::View;
use super::{Purpose, Recorder};
use crate::kernels::WeightType;
use crate::kernels::attention::{Attention, Heads};
use crate::kernels::attention_merge::AttentionMerge;
use crate::kernels::attention_mix::AttentionMix;
use crate::kernels::attention_scores::AttentionScores;
use crate::kernels::attention_split::{AttentionSplit, partial_size};
use crate::kernels::gate::Gate;
use crate::kernels::kv_store::KvStore;
use crate::kernels::matmul::{Activation, MatMul, Output};
use crate::kernels::residual_add::ResidualAdd;
use crate::kernels::rms_norm::RmsNorm;
use crate::kernels::rope::Rope;
use crate::kernels::softmax::Softmax;
use crate::kernels::split_heads::SplitHeads;
use crate::kernels::take::Take;
use crate::model::{Block, Linear, Norm, Placement, QkNorm, Tensors};
use crate::schedule::recording::{Command, Input, Site, Slot};
use crate::schedule::sizes::{Dim, Extent};
use crate::stream::{Kind, Point, Tap};

/// The end of attention or of the FFN.
struct Sublayer<'a> {
    last: &'a Linear,
    /// What it adds to the stream.
    term: Kind,
    /// What it is added to.
    skip: Kind,
    post_norm: Option<Norm>,
}

/// Buffers between kernels, f32, with a row for each token.
struct Rows {
    qkv: Slot,
    z: Slot,
    /// What the FFN's last product reads.
    hidden: Slot,
    /// Gates and what they let through, where the first product does not apply them.
    gate_up: Slot,
    /// What a sublayer reads, or the normalised term that it adds.
    normed: Slot,
    term: Slot,
    /// What pieces of keys give before they are merged.
    partial: Slot,
    pattern: Slot,
    /// Where heads are seen one by one.
    results: Option<Results>,
}

/// Buffers for what each head adds, of those tokens and heads that come back.
#[derive(Clone)]
struct Results {
    /// The tokens of each sequence; `None` is all of them.
    tokens: Option<Range<usize>>,
    /// z of those tokens.
    z: Slot,
    /// Each head alone, and what it adds.
    split: Slot,
    result: Slot,
}

impl Recorder<'_> {
    /// A sublayer's last product and its addition. Fused, the product adds into the stream; where the term itself is
    /// asked for, or is normalised first, it is stored and added by a kernel of its own, which changes no bit of the sum.
    fn add_into_stream(&mut self, block: usize, sublayer: &Sublayer<'_>, input: Slot, rows: &Rows) {
        let tapped = self.touches(block, sublayer.term);
        self.tap_row(block, Slot::Stream, sublayer.skip);
        if !tapped && sublayer.post_norm.is_none() {
            return self.linear(sublayer.last, input, MatMul::TOKENS, Activation::None, Output::AddToStream);
        }
        self.linear(sublayer.last, input, MatMul::TOKENS, Activation::None, Output::Store(rows.term));
        let mut term = rows.term;
        if let Some(norm) = sublayer.post_norm {
            self.norm_into(norm, rows.term, MatMul::TOKENS, rows.normed);
            term = rows.normed;
        }
        self.tap_row(block, term, sublayer.term);
        self.push(ResidualAdd { term, columns: self.spec.hidden_size }.dispatch());
    }

    pub fn blocks(&mut self, tensors: &Tensors) {
        let from = self.watch.from.unwrap_or(0);
        if from >= tensors.blocks.len() {
            return; // nor are there buffers between kernels
        }
        let mut rows = self.rows(tensors);
        for (l, block) in tensors.blocks.iter().enumerate().skip(from) {
            let spec = self.spec;
            let post_norm = spec.placement == Placement::Post;
            let attention = Sublayer {
                last: &block.o,
                term: Kind::AttnOut,
                skip: Kind::AttnSkip,
                post_norm: block.attention_post_norm,
            };
            let mlp =
                Sublayer { last: &block.down, term: Kind::MlpOut, skip: Kind::MlpSkip, post_norm: block.mlp_post_norm };
            let before = |norm: Option<Norm>| norm.filter(|_| !post_norm);
            let last = l + 1 == tensors.blocks.len();
            if self.watch.attended && self.watch.from == Some(l) {
                let columns = spec.num_attention_heads * spec.head_size;
                let point = Point::new(l, Kind::Z);
                self.site(Site::rows(point, rows.z, columns, 0..columns));
            } else {
                self.tap_row(l, Slot::Stream, Kind::ResidPre);
                let input = self.normed(before(block.attention_norm), &rows);
                self.project(l, block, input, &rows);
                if *self.purpose == Purpose::Prefill && last && !self.taps_behind_keys(l) {
                    break; // nobody reads what the last block would add
                }
                self.attend(l, tensors, &rows);
            }
            self.tap_z(l, block, &rows);
            if *self.purpose == Purpose::Score && last && !self.touches_after_z(l) {
                rows.z = self.leave(rows.z); // only these rows' logits are read
            }
            if spec.placement == Placement::Parallel {
                // the FFN's input is the block's own, so it is taken before attention is added
                let input = self.normed(block.mlp_norm, &rows);
                let hidden = self.mlp(block, input, &rows);
                self.add_into_stream(l, &attention, rows.z, &rows);
                self.add_into_stream(l, &mlp, hidden, &rows);
            } else {
                self.add_into_stream(l, &attention, rows.z, &rows);
                self.tap_row(l, Slot::Stream, Kind::ResidMid);
                if let Some(norm) = block.attention_norm.filter(|_| post_norm) {
                    self.norm_in_place(norm);
                    self.tap_row(l, Slot::Stream, Kind::NormalizedResidMid);
                }
                let input = self.normed(before(block.mlp_norm), &rows);
                let hidden = self.mlp(block, input, &rows);
                self.add_into_stream(l, &mlp, hidden, &rows);
            }
            self.tap_row(l, Slot::Stream, Kind::ResidPost);
            if let Some(norm) = block.mlp_norm.filter(|_| post_norm) {
                self.norm_in_place(norm);
                self.tap_row(l, Slot::Stream, Kind::NormalizedResidPost);
            }
            self.recording.commands.push(Command::Boundary);
        }
    }

    /// The buffers between kernels that all blocks share.
    fn rows(&mut self, tensors: &Tensors) -> Rows {
        let spec = self.spec;
        let (d, width) = (spec.hidden_size, spec.num_attention_heads * spec.head_size);
        let asks = |kinds: &[Kind]| self.watch.points().any(|p| kinds.contains(&p.kind));
        let terms = asks(&[Kind::AttnOut, Kind::MlpOut]);
        let (patterns, results) = (asks(&[Kind::Pattern]), asks(&[Kind::Result]));
        let heads = spec.num_attention_heads;
        let normalised_terms = matches!(spec.placement, Placement::Around | Placement::After);
        let qkv = self.scratch("qkv", spec.qkv_width(), Dim::Tokens);
        let z = self.scratch("z", width, Dim::Tokens);
        let wide = spec.intermediate_size;
        let hidden = self.scratch("ffn", wide, Dim::Tokens);
        let gate_apart = spec.gated && !tensors.blocks.iter().all(|block| block.up.gates(spec.activation));
        Rows {
            qkv,
            z,
            hidden,
            // what a model or a recording does not need is never bound
            gate_up: if gate_apart { self.scratch("gate and up", 2 * wide, Dim::Tokens) } else { z },
            normed: if spec.placement == Placement::Post { z } else { self.scratch("normed", d, Dim::Tokens) },
            term: if terms || normalised_terms { self.scratch("term", d, Dim::Tokens) } else { z },
            partial: if self.purpose.steps() {
                self.scratch("partial attention", partial_size(spec.num_attention_heads, spec.head_size), Dim::Partials)
            } else {
                z
            },
            pattern: if patterns { self.scratch("pattern", heads, Dim::Pattern) } else { z },
            results: if results { Some(self.result_rows(z)) } else { None },
        }
    }

    /// What a sublayer reads: the stream, or its normalised form.
    fn normed(&mut self, norm: Option<Norm>, rows: &Rows) -> Slot {
        let Some(norm) = norm else { return Slot::Stream };
        self.norm_into(norm, Slot::Stream, MatMul::TOKENS, rows.normed);
        rows.normed
    }

    /// Queries, keys and values, the latter two where attention will find them.
    fn project(&mut self, l: usize, block: &Block, input: Slot, rows: &Rows) {
        let spec = self.spec;
        let (width, shared) = (spec.num_attention_heads * spec.head_size, spec.num_key_value_heads * spec.head_size);
        let stride = spec.qkv_width();
        self.linear(&block.qkv, input, MatMul::TOKENS, Activation::None, Output::Store(rows.qkv));
        let parts = [(Kind::Q, 0..width), (Kind::K, width..width + shared), (Kind::V, width + shared..stride)];
        self.tap(l, rows.qkv, stride, &parts);
        self.qk_norms(block, rows);
        let (heads, kv_heads, head_size) = (spec.num_attention_heads, spec.num_key_value_heads, spec.head_size);
        let angles = spec.blocks[l].rope.map(|rope| (Input::ANGLES[rope], spec.ropes[rope].pairs));
        if self.purpose.cached() {
            let store = KvStore { rows: rows.qkv, angles, heads, kv_heads, head_size, cache: Slot::Cache(l) };
            self.push(store.dispatch());
        } else if let Some((angles, pairs)) = angles {
            // keys stand behind queries, so that both turn together
            let heads = heads + kv_heads;
            let (interleaved, first) = (false, 0);
            self.push(Rope { interleaved, angles, rows: rows.qkv, stride, first, heads, head_size, pairs }.dispatch());
        }
    }

    /// Attention over what was projected, up to z.
    fn attend(&mut self, l: usize, tensors: &Tensors, rows: &Rows) {
        let spec = self.spec;
        let (width, shared) = (spec.num_attention_heads * spec.head_size, spec.num_key_value_heads * spec.head_size);
        let cached = self.purpose.cached();
        let heads = Heads {
            q: rows.qkv,
            q_stride: spec.qkv_width(),
            first_q: 0,
            kv: if cached { Slot::Cache(l) } else { rows.qkv },
            kv_stride: if cached { 2 * shared } else { spec.qkv_width() },
            first_k: if cached { 0 } else { width },
            first_v: if cached { shared } else { width + shared },
            heads: spec.num_attention_heads,
            kv_heads: spec.num_key_value_heads,
            head_size: spec.head_size,
            scale: spec.blocks[l].scale,
            cap: spec.attention_cap,
            mask: spec.blocks[l].mask,
        };
        self.pattern(l, heads, tensors, rows.pattern);
        if self.edits(l, Kind::Pattern) {
            self.push(AttentionMix { heads, pattern: rows.pattern, z: rows.z }.dispatch());
        } else if self.purpose.steps() {
            self.push(
                AttentionSplit { heads, partial: rows.partial, z: rows.z, reduce: self.choices.reduce }.dispatch(),
            );
            self.push(AttentionMerge { heads, partial: rows.partial, z: rows.z }.dispatch());
        } else {
            let stored = tensors.blocks[l].qkv.weight.chunks.first().map_or(WeightType::F32, |chunk| chunk.weight_type);
            let form = self.choices.attention.of(stored);
            self.push(Attention { form, heads, bias: tensors.relative_bias, z: rows.z }.dispatch());
        }
        self.edit(l, Kind::Z, rows.z, width, 0..width);
    }

    /// What attention gives, seen head by head; it was edited already.
    fn tap_z(&mut self, l: usize, block: &Block, rows: &Rows) {
        let width = self.spec.num_attention_heads * self.spec.head_size;
        self.see(l, rows.z, width, &[(Kind::Z, 0..width)]);
        if self.wants(l, Kind::Result) {
            self.result(l, &block.o, rows);
        }
    }

    /// Whether something comes back of what follows a block's keys and values.
    pub fn taps_behind_keys(&self, l: usize) -> bool {
        let behind = |point: Point| point.kind > Kind::V && (point.block == l || !point.kind.is_per_block());
        self.watch.seen().any(|tap| behind(tap.point))
    }

    /// Whether a point of a block behind z is watched or edited.
    fn touches_after_z(&self, l: usize) -> bool {
        let kinds = [
            Kind::AttnSkip,
            Kind::AttnOut,
            Kind::ResidMid,
            Kind::NormalizedResidMid,
            Kind::MlpSkip,
            Kind::MlpOut,
            Kind::ResidPost,
            Kind::NormalizedResidPost,
        ];
        kinds.into_iter().any(|kind| self.touches(l, kind))
    }

    /// The row of each sequence whose logits are wanted leaves the others behind: the stream's goes on in a buffer of its own,
    /// and z's in the one that this returns.
    fn leave(&mut self, z: Slot) -> Slot {
        let (width, d) = (self.spec.num_attention_heads * self.spec.head_size, self.spec.hidden_size);
        let last_z = self.scratch("z alone", width, Dim::Sequences);
        let stream = self.scratch("stream alone", d, Dim::Sequences);
        self.last_rows(z, width, last_z);
        self.last_rows(Slot::Stream, d, stream);
        self.alone = Some(stream);
        last_z
    }

    /// Buffers for what heads add. Where all taps of them want the same tokens, there are no others.
    fn result_rows(&mut self, z: Slot) -> Results {
        let (heads, d) = (self.spec.num_attention_heads, self.spec.hidden_size);
        let width = heads * self.spec.head_size;
        let taps: Vec<&Tap> = self.watch.seen().filter(|tap| tap.point.kind == Kind::Result).collect();
        let same = taps.iter().all(|tap| tap.tokens == taps[0].tokens);
        let tokens = taps.first().filter(|_| same).and_then(|tap| tap.tokens.clone());
        let most = taps.iter().map(|tap| tap.heads(self.spec).len()).max().unwrap_or(heads);
        let rows = tokens.as_ref().map_or(MatMul::TOKENS, Take::rows);
        let times = rows.times as usize;
        Results {
            z: if tokens.is_some() { self.scratch("heads' tokens", times * width, rows.dim) } else { z },
            split: self.scratch("heads", times * most * width, rows.dim),
            result: self.scratch("heads' terms", times * most * d, rows.dim),
            tokens,
        }
    }

    /// What each head adds: its part of z through W_O, without the bias.
    fn result(&mut self, l: usize, o: &Linear, rows: &Rows) {
        let Some(Results { tokens, z, split, result }) = rows.results.clone() else { return };
        let (heads, head_size, d) = (self.spec.num_attention_heads, self.spec.head_size, self.spec.hidden_size);
        let point = Point::new(l, Kind::Result);
        let Some(tap) = self.watch.seen().find(|tap| tap.point == point) else { return };
        let wanted = tap.heads(self.spec);
        let fixed = |n: usize| Extent::new(n as u64, Dim::One);
        let each = tokens.as_ref().map_or(MatMul::TOKENS, Take::rows);
        if tokens.is_some() {
            let columns = fixed(heads * head_size);
            let view = View {
                values: rows.z,
                rows: MatMul::TOKENS,
                stride: columns,
                first: fixed(0),
                first_head: 0,
                heads: 1,
                columns,
            };
            self.take(tokens.clone(), view, z);
        }
        self.push(SplitHeads { z, split, tokens: each, heads, wanted: wanted.clone(), head_size }.dispatch());
        let o = Linear { weight: o.weight.clone(), bias: Vec::new() };
        let terms = Extent::new(each.times * wanted.len() as u64, each.dim);
        self.linear(&o, split, terms, Activation::None, Output::Store(result));
        // what is left to narrow
        let left = Tap { point, tokens: tap.tokens.clone().filter(|_| tokens.is_none()), heads: None };
        let (values, heads, stride) = (result, wanted.len(), fixed(wanted.len() * d));
        let (first, first_head, columns) = (fixed(0), wanted.start, fixed(d));
        self.show(&left, View { values, rows: each, stride, first, first_head, heads, columns });
    }

    /// Norms of queries and keys, in place.
    fn qk_norms(&mut self, block: &Block, rows: &Rows) {
        let Some(gammas) = block.qk_norms else { return };
        let spec = self.spec;
        let mut first = 0;
        for (gamma, count) in gammas.into_iter().zip([spec.num_attention_heads, spec.num_key_value_heads]) {
            let (columns, heads) = match spec.qk_norm {
                QkNorm::Row => (count * spec.head_size, 1),
                _ => (spec.head_size, count),
            };
            let stride = spec.qkv_width();
            let norm = RmsNorm { input: rows.qkv, output: rows.qkv, columns, heads, stride, first, ..self.rms(gamma) };
            self.rms_norm(norm);
            first += count * spec.head_size;
        }
    }

    /// The FFN up to its last product's input.
    fn mlp(&mut self, block: &Block, input: Slot, rows: &Rows) -> Slot {
        let spec = self.spec;
        let Rows { hidden, gate_up, .. } = *rows;
        let apart = spec.gated && !block.up.gates(spec.activation);
        let (activation, output) = match (spec.gated, apart) {
            (_, true) => (Activation::None, Output::Store(gate_up)),
            (true, false) => (spec.activation, Output::Gate(hidden)),
            (false, false) => (spec.activation, Output::Store(hidden)),
        };
        self.linear(&block.up, input, MatMul::TOKENS, activation, output);
        if apart {
            let columns = spec.intermediate_size;
            self.push(Gate { activation: spec.activation, gate_up, output: hidden, columns }.dispatch());
        }
        hidden
    }

    /// The pattern of a block, of queries and keys: attention itself stores none.
    fn pattern(&mut self, block: usize, heads: Heads, tensors: &Tensors, scores: Slot) {
        if !self.touches(block, Kind::Pattern) {
            return;
        }
        let count = heads.heads as u64;
        self.push(AttentionScores { heads, bias: tensors.relative_bias, scores }.dispatch());
        self.push(
            Softmax {
                reduce: self.choices.reduce,
                values: scores,
                rows: Extent::new(count, Dim::Tokens),
                columns: Extent::new(1, Dim::Keys),
            }
            .dispatch(),
        );
        let point = Point::new(block, Kind::Pattern);
        if self.edits(block, Kind::Pattern) {
            let (stride, columns) = (Extent::new(count, Dim::Keys), Extent::new(1, Dim::Keys));
            self.site(Site { point, values: scores, stride, first: 0, parts: heads.heads, columns });
        }
        if let Some(tap) = self.watch.seen().find(|tap| tap.point == point) {
            // how long its rows are is another number for each batch
            let [stride, first, columns] = [count, 0, 1].map(|times| Extent::new(times, Dim::Keys));
            let (values, rows, first_head, heads) = (scores, MatMul::TOKENS, 0, heads.heads);
            self.show(tap, View { values, rows, stride, first, first_head, heads, columns });
        }
    }
}
