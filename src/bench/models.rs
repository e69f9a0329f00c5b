//! Whole models: encoders in sentences and tokens a second and in the time of one sentence, language models in llama-bench's
//! terms (`pp512`: a prompt of 512 tokens, `tg128`: 128 tokens one by one, `@ d512`: behind 512 others).
//!
//! What is timed is verified: a short text beside the f64 forward on the host; the timed batch to the bit with the products'
//! other form, and its texts alone; a text that was written token by token by reading it again as a prompt.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::ceilings::Ceilings;
use super::report::{Measured, Skipped, Wrong};
use super::rotation::read;
use super::run::measured_of;
use super::timing::{Timer, Times};
use crate::check::forward::Model as Host;
use crate::check::{Random, Wrong as NotRight, pieces};
use crate::error::{Error, Result};
use crate::files::Pooling;
use crate::gpu::{AdapterClass, Gpu};
use crate::kernels::WeightType;
use crate::kernels::attention::PAGE;
use crate::kernels::matmul::Form;
use crate::model::{LoadOptions, Model, Spec};
use crate::reference;
use crate::schedule::{Batch, CacheView, Choices, Draw, Head, Program, Purpose, Slot};
use crate::stream::Kind;

/// A model to be measured: on the GPU, and on the host for the reference.
pub(super) struct Subject {
    name: String,
    dtype: &'static str,
    host: Host,
    weights: Arc<[wgpu::Buffer]>,
    choices: Choices,
}

impl Subject {
    /// Of that shape, with random weights.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] before anything is made, where the GPU or the host has too little.
    pub fn random(gpu: &Gpu, name: &str, spec: Spec, weight_type: WeightType, seed: u64) -> Result<Self> {
        fits(gpu, &spec, weight_type)?;
        let limits = &gpu.capabilities().limits;
        let most = limits.max_storage_buffer_binding_size.min(1 << 30) as usize;
        let mut random = Random::of(seed, name);
        let host = Host::within(spec, weight_type, &mut random, Some(most));
        let weights = pieces::upload(gpu, &host)?;
        let choices = Choices::of(gpu.capabilities());
        Ok(Subject { name: name.into(), dtype: weight_type.name(), host, weights, choices })
    }

    /// From its files. Texts are pooled by their mean, whatever the folder says, and dense layers are left out.
    pub async fn load(gpu: &Gpu, path: &Path, options: LoadOptions) -> Result<Self> {
        let model = Model::load(gpu, path, options).await?;
        if model.spec.relative_bias.is_some() {
            let what = "benchmarks of models with relative position biases: the reference has none";
            return Err(Error::unsupported(path, what));
        }
        let mut weights = Vec::new();
        for buffer in model.weights.iter() {
            weights.push(bytemuck::cast_slice(&read(gpu, buffer, buffer.size() as usize).await?).to_vec());
        }
        let mut tensors = model.tensors.clone();
        tensors.dense.clear();
        let dtype = tensors.blocks.first().map_or("f32", |block| block.qkv.weight.chunks[0].weight_type.name());
        let name = path.file_stem().map_or("model".into(), |name| name.to_string_lossy().into_owned());
        let host = Host { spec: model.spec.clone(), tensors, weights };
        Ok(Subject { name, dtype, host, weights: Arc::clone(&model.weights), choices: model.choices })
    }

    fn spec(&self) -> &Spec {
        &self.host.spec
    }

    fn program(&self, gpu: &Gpu, purpose: &Purpose, choices: Choices) -> Result<Program> {
        pieces::program(gpu, &self.host, &self.weights, purpose, choices, &[])
    }

    fn ids(&self, random: &mut Random, count: usize) -> Vec<u32> {
        (0..count).map(|_| random.below(self.spec().vocab_size) as u32).collect()
    }

    /// Bytes of the weights that a forward reads, but for the word table's rows.
    fn read_by(&self, program: &Program) -> f64 {
        let mut seen = std::collections::HashSet::new();
        let dispatches = program.recording().dispatches().filter(|dispatch| dispatch.variant.kernel != "embed");
        let slots = dispatches.flat_map(|dispatch| &dispatch.bindings);
        let size = |slot: &Slot| match slot {
            Slot::Weight(i) if seen.insert(*i) => self.weights[*i].size(),
            _ => 0,
        };
        slots.map(size).sum::<u64>() as f64
    }
}

/// What came of one model.
#[derive(Default)]
pub(super) struct Outcome {
    pub measured: Vec<Measured>,
    pub wrong: Vec<Wrong>,
    pub skipped: Vec<Skipped>,
}

/// How much of it.
pub(super) struct Sizes {
    /// Sentences of a batch, and tokens of each.
    pub sentences: (usize, usize),
    /// Tokens of a prompt, and tokens written.
    pub prompt: usize,
    pub written: usize,
    /// Tokens that are read before; 0 for none.
    pub depths: &'static [usize],
    /// Tokens that the host's reference reads.
    pub verified: usize,
}

pub(super) const QUICK: Sizes = Sizes { sentences: (16, 16), prompt: 64, written: 16, depths: &[0, 64], verified: 8 };
pub(super) const FULL: Sizes = Sizes { sentences: (64, 16), prompt: 512, written: 128, depths: &[0, 512], verified: 8 };

/// Verifies a model, then times it.
pub(super) async fn measure(
    timer: &Timer<'_>,
    ceilings: &Ceilings,
    subject: &Subject,
    sizes: &Sizes,
    seed: u64,
) -> Result<Outcome> {
    let mut bench =
        Bench { timer, ceilings, subject, sizes, random: Random::of(seed, "texts"), out: Outcome::default() };
    let outcome = if subject.spec().is_decoder() { bench.decoder().await } else { bench.encoder().await };
    let (wrong, skipped) = (&mut bench.out.wrong, &mut bench.out.skipped);
    match outcome {
        Ok(()) => {}
        Err(NotRight::Numbers(fault)) => wrong.push(Wrong {
            name: "model".into(),
            shape: Vec::new(),
            variant: subject.name.clone(),
            dtype: subject.dtype.into(),
            what: fault.what,
        }),
        Err(NotRight::Skipped(reason) | NotRight::Failed(Error::OutOfMemory(reason))) => {
            skipped.push(Skipped { name: subject.name.clone(), reason });
        }
        Err(NotRight::Failed(error)) => return Err(error),
    }
    Ok(bench.out)
}

struct Bench<'a> {
    timer: &'a Timer<'a>,
    ceilings: &'a Ceilings,
    subject: &'a Subject,
    sizes: &'a Sizes,
    random: Random,
    out: Outcome,
}

/// What an execution of a model is.
struct Work<'a> {
    name: String,
    shape: &'a [usize],
    unit: &'a str,
    /// Of what the unit counts.
    amount: f64,
    flops: f64,
    bytes: f64,
    error: f64,
}

type Verdict<T> = Result<T, NotRight>;

impl Bench<'_> {
    fn check(&self) -> Result<()> {
        if self.timer.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn push(&mut self, work: &Work<'_>, seconds: Vec<f64>) {
        let of = |seconds: f64| match work.unit {
            "ms" => seconds * 1e3,
            _ => work.amount / seconds,
        };
        let times = Times { wall: seconds, gpu: None };
        let measured = measured_of(&times, self.ceilings, work.flops, work.bytes, of).map(|measured| Measured {
            name: work.name.clone(),
            shape: work.shape.to_vec(),
            variant: self.subject.name.clone(),
            dtype: self.subject.dtype.into(),
            unit: work.unit.into(),
            error: Some(work.error),
            models: vec![self.subject.name.clone()],
            ..measured
        });
        self.out.measured.extend(measured);
    }

    async fn encoder(&mut self) -> Verdict<()> {
        let (gpu, subject) = (self.timer.gpu, self.subject);
        let purpose = Purpose::Embed(Head { pooling: vec![Pooling::Mean], normalize: true });
        let program = subject.program(gpu, &purpose, subject.choices)?;
        let (count, length) = self.sizes.sentences;
        let length = length.min(subject.spec().max_tokens());
        let texts: Vec<_> = (0..count).map(|_| subject.ids(&mut self.random, length)).collect();
        let all = pieces::batch(&subject.host, &program, &texts);
        let vectors = program.run(&all).await?.output;
        let d = subject.spec().hidden_size;
        // one of them beside the reference, alone to the bit, and all of them with the other tiling
        let one = self.random.below(count);
        let alone = pieces::batch(&subject.host, &program, std::slice::from_ref(&texts[one]));
        let single = program.run(&alone).await?.output;
        same("a text alone", &single, &vectors[one * d..(one + 1) * d])?;
        let other = Form::ALL.into_iter().find(|form| *form != subject.choices.matmul).unwrap_or(Form::Register);
        let naive = subject.program(gpu, &purpose, Choices { matmul: other, ..subject.choices })?;
        same("the other tiling", &naive.run(&all).await?.output, &vectors)?;
        drop(naive);
        self.check()?;
        let passed = subject.host.forward(&texts[one]);
        let last = passed.points.iter().find(|(point, _)| point.kind == Kind::FinalNormalized);
        let rows = last.map_or(&passed.stream, |(_, normed)| normed);
        let wanted = reference::l2_normalize(&reference::pool(rows, d, 0, Pooling::Mean), d);
        let tolerance = tolerance(subject);
        let error = pieces::compared("a sentence's vector", &single, &wanted, tolerance)?;
        let bytes = subject.read_by(&program);
        for (batch, verified, number) in [(&alone, &single, 1), (&all, &vectors, count)] {
            let mut seconds = Vec::new();
            for _ in 0..self.timer.samples {
                self.check()?;
                let start = Instant::now();
                let output = program.run(batch).await?.output;
                seconds.push(start.elapsed().as_secs_f64());
                same("a repetition", &output, verified)?;
            }
            let dims = batch.dims();
            let flops = program.recording().flops(&dims);
            let names: &[_] = if number == 1 {
                &[("latency", "ms")]
            } else {
                &[("sentences", "sentences/s"), ("tokens", "tokens/s")]
            };
            for (name, unit) in names {
                let amount = if *unit == "tokens/s" { f64::from(dims.tokens) } else { number as f64 };
                let shape = &[number, length];
                let work = Work { name: name.to_string(), shape, unit, amount, flops, bytes, error };
                self.push(&work, seconds.clone());
            }
        }
        Ok(())
    }

    async fn decoder(&mut self) -> Verdict<()> {
        let (gpu, subject, sizes) = (self.timer.gpu, self.subject, self.sizes);
        let deepest = sizes.depths.iter().copied().max().unwrap_or(0);
        let most = (deepest + sizes.prompt.max(sizes.written) + 1).max(sizes.verified + 1);
        if most > subject.spec().max_tokens() {
            let takes = subject.spec().max_tokens();
            return Err(NotRight::Skipped(format!("it takes {takes} tokens, and {most} are measured")));
        }
        let machine = Machine::new(gpu, subject, most)?;
        let ids = subject.ids(&mut self.random, most);
        // a short text beside the reference
        let short = &ids[..sizes.verified];
        machine.read(short, 0..short.len() - 1).await?;
        let logits = machine.logits(short).await?;
        self.check()?;
        let passed = subject.host.forward(short);
        let vocabulary = subject.spec().vocab_size;
        let wanted = passed.points.iter().find(|(point, _)| point.kind == Kind::Logits);
        let wanted = wanted.map_or(&[][..], |(_, all)| &all[all.len() - vocabulary..]);
        let error = pieces::compared("the logits", &logits, wanted, tolerance(subject))?;
        drop(passed);
        for &depth in sizes.depths {
            let suffix = if depth == 0 { String::new() } else { format!(" @ d{depth}") };
            machine.read(&ids, 0..depth).await?;
            // a prompt: all but its last token, and then the step that chooses what follows
            let text = &ids[..depth + sizes.prompt];
            let (mut seconds, mut chosen) = (Vec::new(), None);
            for round in 0..=self.timer.samples {
                self.check()?;
                let start = Instant::now();
                machine.read(text, depth..text.len() - 1).await?;
                let next = machine.step(text).await?;
                let time = start.elapsed().as_secs_f64();
                if *chosen.get_or_insert(next) != next {
                    return Err(NotRight::Skipped("two runs of a prompt end in different tokens".into()));
                }
                if round > 0 {
                    seconds.push(time);
                }
            }
            machine.agrees(text).await?;
            let (flops, bytes) = machine.prompt_work(subject, &ids, depth..text.len());
            let (name, shape) = (format!("pp{}{suffix}", sizes.prompt), with_depth(sizes.prompt, depth));
            let amount = sizes.prompt as f64;
            self.push(&Work { name, shape: &shape, unit: "tokens/s", amount, flops, bytes, error }, seconds);

            let (mut seconds, mut written) = (Vec::new(), None);
            for round in 0..=self.timer.samples {
                self.check()?;
                machine.read(&ids, 0..depth).await?;
                let mut text = ids[..depth + 1].to_vec();
                let start = Instant::now();
                for _ in 0..sizes.written {
                    let next = machine.step(&text).await?;
                    text.push(next);
                }
                let time = start.elapsed().as_secs_f64();
                if round > 0 {
                    seconds.push(time);
                }
                if *written.get_or_insert_with(|| text.clone()) != text {
                    return Err(wrong("two runs write different texts"));
                }
            }
            // the same text, read instead of written
            let text = written.unwrap_or_default();
            let stepped = machine.logits(&text).await?;
            machine.read(&text, 0..text.len() - 1).await?;
            let read = machine.logits(&text).await?;
            pieces::compared("logits behind a written text", &stepped, &widened(&read), 1e-4)?;
            let (flops, bytes) = machine.step_work(subject, &ids, depth + sizes.written / 2);
            let (name, shape) = (format!("tg{}{suffix}", sizes.written), with_depth(sizes.written, depth));
            let written = sizes.written as f64;
            let (flops, bytes) = (flops * written, bytes * written);
            self.push(&Work { name, shape: &shape, unit: "tokens/s", amount: written, flops, bytes, error }, seconds);
        }
        Ok(())
    }
}

/// Whether there is memory for a model on both sides.
fn fits(gpu: &Gpu, spec: &Spec, weight_type: WeightType) -> Result<()> {
    let d = spec.hidden_size;
    let up = if spec.gated { 2 } else { 1 } * spec.intermediate_size;
    let z = spec.num_attention_heads * spec.head_size;
    let block = (spec.qkv_width() + z + up + spec.intermediate_size) * d;
    let words = spec.vocab_size * d;
    let stored = weight_type.row_bytes(words + spec.num_hidden_layers * block) as u64;
    // the reference widens a matrix at a time: the words to f64, by way of f32
    let host = stored + 12 * words as u64;
    let enough = |has: Option<u64>, needs: u64, where_: &str| match has {
        Some(has) if has < needs => {
            let [needs, has] = [needs, has].map(|bytes| bytes >> 20);
            Err(Error::OutOfMemory(format!("it takes {needs} MiB {where_}, and {has} MiB are there")))
        }
        _ => Ok(()),
    };
    let shared = gpu.capabilities().class != AdapterClass::Discrete;
    enough(crate::gpu::host_memory(), host + if shared { stored } else { 0 }, "of the host's memory")?;
    enough(gpu.capabilities().memory, stored + stored / 8, "on the GPU")
}

fn wrong(what: &str) -> NotRight {
    NotRight::Numbers(crate::check::Fault { error: f64::NAN, what: what.into() })
}

/// Tokens, and those before them where there are any.
fn with_depth(tokens: usize, depth: usize) -> Vec<usize> {
    if depth == 0 { vec![tokens] } else { vec![tokens, depth] }
}

/// Rounding adds up from block to block.
fn tolerance(subject: &Subject) -> f64 {
    if subject.spec().num_hidden_layers > 16 { 2.0 * pieces::STREAM } else { pieces::STREAM }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The same bits.
fn same(what: &str, found: &[f32], wanted: &[f32]) -> Verdict<()> {
    let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    match found.iter().zip(wanted).position(differ) {
        None if found.len() == wanted.len() => Ok(()),
        place => {
            let place = place.unwrap_or(found.len().min(wanted.len()));
            Err(wrong(&format!("{what} has other bits at {place}")))
        }
    }
}

/// A language model with one session's cache.
struct Machine<'a> {
    host: &'a Host,
    prefill: Program,
    /// With the products' other form.
    naive: Program,
    decode: Program,
    logits: Program,
    cache: Vec<wgpu::Buffer>,
    pages: Vec<u32>,
}

/// Tokens of a prompt's part.
const CHUNK: usize = 512;

impl<'a> Machine<'a> {
    fn new(gpu: &Gpu, subject: &'a Subject, tokens: usize) -> Result<Self> {
        let spec = subject.spec();
        let pages = tokens.div_ceil(PAGE as usize) as u32;
        let width = 8 * (spec.num_key_value_heads * spec.head_size) as u64;
        let bytes = u64::from(pages * PAGE) * width;
        let cache = |_| gpu.buffer("cache", bytes, wgpu::BufferUsages::STORAGE);
        let other = Form::ALL.into_iter().find(|form| *form != subject.choices.matmul).unwrap_or(Form::Register);
        let naive = Choices { matmul: other, ..subject.choices };
        Ok(Machine {
            host: &subject.host,
            prefill: subject.program(gpu, &Purpose::Prefill, subject.choices)?,
            naive: subject.program(gpu, &Purpose::Prefill, naive)?,
            decode: subject.program(gpu, &Purpose::Decode, subject.choices)?,
            logits: subject.program(gpu, &Purpose::Logits, subject.choices)?,
            cache: (0..spec.num_hidden_layers).map(cache).collect::<Result<_>>()?,
            pages: (0..pages).collect(),
        })
    }

    fn view(&self) -> CacheView<'_> {
        CacheView { buffers: &self.cache, rows: self.pages.len() as u32 * PAGE, version: 1 }
    }

    fn batch(&self, ids: &[u32], range: std::ops::Range<usize>, chooses: bool) -> Batch {
        let mut batch = Batch::new(self.prefill.recording().tile);
        let draw = chooses.then_some(Draw {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            penalty: 1.0,
            seed_low: 0,
            seed_high: 0,
            position: range.end as u32,
            first_seen: 0,
            seen: 0,
            unused: [0; 2],
        });
        let pages = &self.pages[..range.end.div_ceil(PAGE as usize)];
        batch.push_cached(&ids[range.clone()], range.start as u32, pages, draw, &[]);
        for rope in 0..self.host.spec.ropes.len() {
            batch.push_angles(rope, &self.host.angles(rope, range.end, range.clone()));
        }
        batch
    }

    /// Reads tokens into the cache.
    async fn read(&self, ids: &[u32], range: std::ops::Range<usize>) -> Result<()> {
        self.read_by(&self.prefill, ids, range).await
    }

    async fn read_by(&self, program: &Program, ids: &[u32], range: std::ops::Range<usize>) -> Result<()> {
        for first in range.clone().step_by(CHUNK) {
            let batch = self.batch(ids, first..range.end.min(first + CHUNK), false);
            program.start(&batch, Some(self.view()))?.finish().await?;
        }
        Ok(())
    }

    /// The token that follows a text of which all but the last are in the cache.
    async fn step(&self, ids: &[u32]) -> Result<u32> {
        let batch = self.batch(ids, ids.len() - 1..ids.len(), true);
        let output = self.decode.start(&batch, Some(self.view()))?.finish().await?.output;
        Ok(output.first().map_or(0, |id| id.to_bits()))
    }

    /// The logits of the same.
    async fn logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let batch = self.batch(ids, ids.len() - 1..ids.len(), true);
        Ok(self.logits.start(&batch, Some(self.view()))?.finish().await?.output)
    }

    /// A prompt read with the products' other form leads to the same bits.
    async fn agrees(&self, ids: &[u32]) -> Verdict<()> {
        let ours = self.logits(ids).await?;
        self.read_by(&self.naive, ids, 0..ids.len() - 1).await?;
        same("a prompt read with the other tiling", &self.logits(ids).await?, &ours)
    }

    /// FLOP and bytes of reading a prompt and choosing what follows.
    fn prompt_work(&self, subject: &Subject, ids: &[u32], range: std::ops::Range<usize>) -> (f64, f64) {
        let last = range.end - 1;
        let (flops, bytes) = self.step_work(subject, ids, last);
        let batch = self.batch(ids, range.start..last, false);
        (flops + self.prefill.recording().flops(&batch.dims()), bytes + subject.read_by(&self.prefill))
    }

    /// FLOP and bytes of one step behind so many tokens.
    fn step_work(&self, subject: &Subject, ids: &[u32], past: usize) -> (f64, f64) {
        let past = past.min(ids.len() - 1);
        let batch = self.batch(ids, past..past + 1, true);
        let row: u64 =
            self.cache.iter().map(|buffer| buffer.size()).sum::<u64>() / (self.pages.len() as u64 * u64::from(PAGE));
        let cache = row as f64 * past as f64;
        (self.decode.recording().flops(&batch.dims()), subject.read_by(&self.decode) + cache)
    }
}
