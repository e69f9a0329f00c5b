//! What is measured of the kernels: each at the sizes that real models give it, with the cases of `check` as inputs and
//! oracle.

use std::collections::HashSet;

use super::shapes::SHAPES;
use crate::check::attention::Shape as Heads;
use crate::check::softmax;
use crate::check::{Plan, attention, attention_merge, attention_scores, attention_split, embed, gate, kv_store};
use crate::check::{l2_normalize, layer_norm, matmul, pool, residual_add, rms_norm, rope, sample, soft_cap};
use crate::files::Pooling;
use crate::gpu::Capabilities;
use crate::kernels::attention as fused;
use crate::kernels::kv_store::KvStore;
use crate::kernels::matmul::{MatMul, Product};
use crate::kernels::matvec::MatVec;
use crate::kernels::rope::Rope;
use crate::kernels::{Reduce, Rows, WeightType};
use crate::kernels::{matmul as product, matvec as few};
use crate::model::{NormKind, Positions, Spec};
use crate::schedule::{Choices, Dims, Dispatch, Input, Slot};

/// One measurement.
pub(super) struct Job {
    pub plan: Plan,
    pub shape: Vec<usize>,
    pub dtype: &'static str,
    pub unit: Unit,
    /// The models that have it.
    pub models: Vec<&'static str>,
}

/// What a kernel's speed is said in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Gflops,
    Gbytes,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Gflops => "GFLOP/s",
            Unit::Gbytes => "GB/s",
        }
    }
}

/// Tokens of a batch.
const TOKENS: usize = 128;
/// The same as sequences.
const ONE: &[usize] = &[TOKENS];
const SENTENCES: &[usize] = &[16; 8];
const PROMPT: &[(usize, usize)] = &[(0, TOKENS)];
const LONG_PROMPT: &[(usize, usize)] = &[(0, 512)];
/// A decode step behind that many tokens.
const STEP: &[(usize, usize)] = &[(512, 1)];
const DEEP_STEP: &[(usize, usize)] = &[(4095, 1)];

/// Rows of a word table at most: what is read of it are the tokens' rows.
const WORDS: usize = 8192;

/// Builds the list.
struct List<'a> {
    capabilities: &'a Capabilities,
    full: bool,
    jobs: Vec<Job>,
}

/// All measurements of a suite, each once.
pub(super) fn jobs(capabilities: &Capabilities, full: bool) -> Vec<Job> {
    let mut list = List { capabilities, full, jobs: Vec::new() };
    for size in [512, 1024] {
        let types = [WeightType::F32, WeightType::F16];
        // a form of cooperative matrices is not for f32
        let types = if list.choices().matmul.cooperates() { &types[..] } else { &types[..1] };
        list.products("square", types, (size, size, size));
    }
    // a batch of many sentences, in whatever suite
    list.products("MiniLM", &[WeightType::F32], (2048, 384, 384));
    for shape in &SHAPES {
        let spec = (shape.spec)();
        match (full, shape.name) {
            (true, _) | (_, "MiniLM" | "SmolLM-135M") => list.model(shape.name, &spec),
            (_, "Llama-1B") => {
                use WeightType::{F16, Q4K, Q8_0};
                list.products(shape.name, &[Q8_0, Q4K], (32, 2048, 2048));
                list.steps(shape.name, &[F16, Q8_0, Q4K], (1, 2048, 2048));
            }
            _ => {}
        }
    }
    merged(list.jobs)
}

/// Those of the same kernel, shape and type once, for all models that have it.
fn merged(jobs: Vec<Job>) -> Vec<Job> {
    let mut all: Vec<Job> = Vec::new();
    for job in jobs {
        let same = |other: &&mut Job| {
            other.plan.label() == job.plan.label() && other.shape == job.shape && other.dtype == job.dtype
        };
        match all.iter_mut().find(same) {
            Some(known) => known.models.extend(job.models),
            None => all.push(job),
        }
    }
    for job in &mut all {
        let mut seen = HashSet::new();
        job.models.retain(|model| seen.insert(*model));
    }
    all
}

impl List<'_> {
    fn push(&mut self, model: &'static str, plan: Plan, shape: &[usize], dtype: &'static str, unit: Unit) {
        if self.capabilities.offers(plan.needs()) {
            self.jobs.push(Job { plan, shape: shape.to_vec(), dtype, unit, models: vec![model] });
        }
    }

    /// A kernel whose numbers are all f32, bound by memory.
    fn floats(&mut self, model: &'static str, plan: Plan, shape: &[usize]) {
        self.push(model, plan, shape, "f32", Unit::Gbytes);
    }

    fn choices(&self) -> Choices {
        Choices::of(self.capabilities)
    }

    fn reduces(&self) -> Vec<Reduce> {
        if self.full { Reduce::ALL.to_vec() } else { vec![self.choices().reduce] }
    }

    /// Rows of a weight's chunk, so that it can be bound.
    fn chunk(&self, weight_type: WeightType, depth: usize) -> usize {
        let most = self.capabilities.limits.max_storage_buffer_binding_size.min(1 << 30) as usize - 4096;
        (most / weight_type.row_bytes(weight_type.stride(depth))).max(1)
    }

    /// A product `[M, N, K]` with many rows: of each form, or of the tile that a model would take.
    fn products(&mut self, model: &'static str, types: &[WeightType], (m, n, k): (usize, usize, usize)) {
        let forms =
            if self.full { product::Form::on(self.capabilities).collect() } else { vec![self.choices().matmul] };
        let dims = Dims { tokens: if self.full { 0 } else { m as u32 }, ..Dims::default() };
        for &weight_type in types.iter().filter(|t| k.is_multiple_of(t.block().elements)) {
            for &form in &forms {
                let dispatch = move |product: &Product| {
                    let dispatch = MatMul { form, product: *product }.fitted();
                    let (variant, grid) = dispatch.fitted(&dims);
                    Dispatch { variant: variant.clone(), grid, tilings: Vec::new(), ..dispatch }
                };
                let plan = matmul::timed("matmul", (m, n, k), weight_type, self.chunk(weight_type, k), &dispatch);
                self.push(model, plan, &[m, n, k], weight_type.name(), Unit::Gflops);
            }
        }
    }

    /// A product of a decode step.
    fn steps(&mut self, model: &'static str, types: &[WeightType], (m, n, k): (usize, usize, usize)) {
        let forms = if self.full { few::Form::ALL.to_vec() } else { vec![self.choices().matvec] };
        for &weight_type in types.iter().filter(|t| k.is_multiple_of(t.block().elements)) {
            for &form in &forms {
                let dispatch = move |product: &Product| MatVec { form, product: *product }.dispatch();
                let plan = matmul::timed("matvec", (m, n, k), weight_type, self.chunk(weight_type, k), &dispatch);
                self.push(model, plan, &[m, n, k], weight_type.name(), Unit::Gbytes);
            }
        }
    }

    /// Everything that a model of that shape runs.
    fn model(&mut self, name: &'static str, spec: &Spec) {
        let quick = [if spec.is_decoder() { WeightType::F16 } else { WeightType::F32 }];
        let types = if self.full { &WeightType::ALL[..] } else { &quick };
        let (d, ffn) = (spec.hidden_size, spec.intermediate_size);
        let up = if spec.gated { 2 * ffn } else { ffn };
        let weights = [(spec.qkv_width(), d), (d, spec.num_attention_heads * spec.head_size), (up, d), (d, ffn)];
        // quick: the largest two
        let some = if self.full { &weights[..] } else { &weights[2..] };
        for &(n, k) in some {
            self.products(name, types, (TOKENS, n, k));
            if spec.is_decoder() {
                self.steps(name, types, (1, n, k));
            }
            if self.full {
                self.products(name, types, (512, n, k));
                self.steps(name, types, (4, n, k));
            }
        }
        if spec.is_decoder() {
            self.steps(name, types, (1, spec.vocab_size, d));
        }
        self.words(name, spec, types);
        self.norms(name, spec);
        if spec.is_decoder() {
            self.decoder(name, spec)
        } else {
            self.encoder(name, spec)
        }
        if self.full {
            self.instruments(name, spec);
        }
    }

    fn words(&mut self, name: &'static str, spec: &Spec, types: &[WeightType]) {
        let d = spec.hidden_size;
        for &weight_type in types.iter().filter(|t| d.is_multiple_of(t.block().elements)) {
            let rows = spec.vocab_size.min(WORDS).min(self.chunk(weight_type, d));
            let table = embed::Table { rows, chunk_rows: rows, lengths: ONE };
            let positions = spec.positions != Positions::Rotary;
            let plan = embed::case(weight_type, d, positions, spec.type_vocab_size > 0, table);
            self.push(name, plan, &[TOKENS, rows, d], weight_type.name(), Unit::Gbytes);
        }
    }

    fn norms(&mut self, name: &'static str, spec: &Spec) {
        let d = spec.hidden_size;
        let sums = if self.full { Rows::ALL.to_vec() } else { vec![self.choices().sums] };
        for sums in sums {
            let plan = match spec.norm {
                NormKind::Layer | NormKind::LayerNoBias => layer_norm::case(sums, !spec.is_decoder(), TOKENS, d, 0.5),
                NormKind::Rms | NormKind::RmsPlusOne => rms_norm::whole_rows(sums, false, TOKENS, d),
            };
            self.floats(name, plan, &[TOKENS, d]);
        }
    }

    fn attention_forms(&self) -> Vec<fused::Form> {
        if self.full { fused::Form::on(self.capabilities).collect() } else { vec![self.choices().attention] }
    }

    fn heads(spec: &Spec) -> Heads {
        let Spec { num_attention_heads: heads, num_key_value_heads: kv_heads, head_size, blocks, .. } = spec;
        Heads { kv_heads: *kv_heads, mask: blocks[0].mask, ..Heads::new(*heads, *head_size) }
    }

    fn encoder(&mut self, name: &'static str, spec: &Spec) {
        let (heads, d) = (Self::heads(spec), spec.hidden_size);
        let shape = [TOKENS, TOKENS, heads.heads, heads.kv_heads, heads.head_size];
        for form in self.attention_forms() {
            self.push(name, attention::case(Heads { form, ..heads }, ONE), &shape, "f32", Unit::Gflops);
        }
        self.floats(name, pool::case(Pooling::Mean, d, 0, SENTENCES), &[SENTENCES.len(), TOKENS, d]);
        for reduce in self.reduces() {
            self.floats(name, l2_normalize::case(reduce, 8, d, 1.0), &[8, d]);
        }
    }

    fn decoder(&mut self, name: &'static str, spec: &Spec) {
        let heads = Self::heads(spec);
        let shape = |queries, keys| [queries, keys, heads.heads, heads.kv_heads, heads.head_size];
        let prompts = [(PROMPT, TOKENS), (LONG_PROMPT, 512)];
        for (prompt, length) in if self.full { &prompts[..] } else { &prompts[..1] } {
            for form in self.attention_forms() {
                let plan = attention::paged(Heads { form, ..heads }, prompt);
                self.push(name, plan, &shape(*length, *length), "f32", Unit::Gflops);
            }
        }
        let steps = [(STEP, 513), (DEEP_STEP, 4096)];
        for (step, keys) in if self.full { &steps[..] } else { &steps[..1] } {
            for reduce in self.reduces() {
                self.floats(name, attention_split::case(heads, reduce, step), &shape(1, *keys));
            }
            self.floats(name, attention_merge::case(heads, step), &shape(1, *keys));
        }
        let Spec { num_attention_heads, num_key_value_heads, head_size, intermediate_size, vocab_size, .. } = *spec;
        let pairs = spec.ropes.first().map(|rope| rope.pairs);
        let store = KvStore {
            rows: Slot::Scratch(0),
            angles: pairs.map(|pairs| (Input::Angles, pairs)),
            heads: num_attention_heads,
            kv_heads: num_key_value_heads,
            head_size,
            cache: Slot::Cache(0),
        };
        let shape = [TOKENS, num_attention_heads, num_key_value_heads, head_size];
        self.floats(name, kv_store::case(store, PROMPT, true), &shape);
        if spec.gated {
            self.floats(name, gate::case(spec.activation, TOKENS, intermediate_size), &[TOKENS, intermediate_size]);
        }
        self.floats(name, sample::row_of(vocab_size), &[1, vocab_size]);
        self.floats(name, soft_cap::case(1, vocab_size, 30.0), &[1, vocab_size]);
    }

    /// Kernels that run only where points are asked for, or in families of no shape of these.
    fn instruments(&mut self, name: &'static str, spec: &Spec) {
        let (heads, d) = (Self::heads(spec), spec.hidden_size);
        self.floats(name, residual_add::case(TOKENS, d), &[TOKENS, d]);
        let shape = [TOKENS, heads.heads, heads.kv_heads, heads.head_size];
        // without a mask: hidden keys' scores, -1e30, would drown all others in one norm
        let all = Heads { mask: crate::kernels::attention::Mask::NONE, ..heads };
        self.push(name, attention_scores::case(all, TOKENS), &shape, "f32", Unit::Gflops);
        for reduce in self.reduces() {
            let rows = heads.heads * TOKENS;
            self.floats(name, softmax::case(reduce, rows, TOKENS, 0.0, 8.0), &[rows, TOKENS]);
        }
        let rope = Rope {
            interleaved: false,
            angles: Input::Angles,
            rows: Slot::Scratch(0),
            stride: spec.qkv_width(),
            first: 0,
            heads: heads.heads,
            head_size: heads.head_size,
            pairs: heads.head_size / 2,
        };
        self.floats(name, rope::case(rope, TOKENS), &shape);
    }
}
