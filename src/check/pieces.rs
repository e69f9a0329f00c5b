//! Pieces of models beside a forward on the host: single blocks of every form, then whole random-weight encoders and
//! decoders, with what must hold of them to the bit.

use std::sync::Arc;

use super::case::relative_error;
use super::decomposed::{PARTS, edits, parts};
use super::forward::Model;
use super::inventory::{Check, Wrong};
use super::models::{
    VOCABULARY, bert, gemma, gpt2, llama, masked_bert, masked_modernbert, modernbert, mpnet, neox, olmo, qwen3,
};
use super::random::Random;
use crate::error::Result;
use crate::files::Pooling;
use crate::gpu::Gpu;
use crate::kernels::attention::{self, PAGE};
use crate::kernels::matmul::Form;
use crate::kernels::{Reduce, Rows, WeightType, matvec};
use crate::model::Spec;
use crate::schedule::{Batch, CacheView, Choices, Head, Outcome, Program, Purpose, Watch, record};
use crate::stream::{Kind, Point};

/// Allowed relative error of every point of the stream.
pub(crate) const STREAM: f64 = 2e-5;

/// The same where products or attention round what they multiply to f16.
const HALF_STREAM: f64 = 5e-3;

/// Whether products or attention round what they multiply to f16.
pub(crate) fn halves(model: &Model, choices: Choices) -> bool {
    let mut chunks = model.tensors.blocks.iter().flat_map(|block| &block.qkv.weight.chunks);
    (choices.matmul.cooperates() || choices.attention.cooperates())
        && chunks.any(|chunk| chunk.weight_type != WeightType::F32)
}

/// What is allowed of a model with such choices.
pub(crate) fn allowed(model: &Model, choices: Choices) -> f64 {
    if halves(model, choices) { HALF_STREAM } else { STREAM }
}

pub fn checks() -> Vec<Check> {
    use WeightType::{Bf16, F16, F32, Q4_0, Q4K, Q5K, Q6K, Q8_0};
    let mut all = Vec::new();
    let forms: [fn(usize) -> Spec; 9] = [bert, mpnet, llama, gemma, olmo, neox, gpt2, modernbert, qwen3];
    for form in forms {
        all.push(points("block", form, 1, F32));
        let kind = if form(1).is_decoder() { "decoder" } else { "encoder" };
        all.push(piece(kind, "parts sum to the stream", PARTS, form, 3, F32, |gpu, random, model, _| {
            parts(gpu, random, model)
        }));
        all.push(piece(kind, "edits of nothing change no bit", 0.0, form, 3, F32, |gpu, random, model, _| {
            edits(gpu, random, model)
        }));
    }
    for (form, weight_type) in [(bert as fn(usize) -> Spec, F32), (bert, F16), (modernbert, F32), (modernbert, Bf16)] {
        all.push(points("encoder", form, 4, weight_type));
        all.push(piece("encoder", "vectors, alone and in batches", STREAM, form, 4, weight_type, vectors));
        all.push(piece("encoder", "taps and forms change no bit", 0.0, form, 4, weight_type, taps));
    }
    for weight_type in [F16, Q8_0, Q4K] {
        all.push(piece("decoder", "parts sum to the stream", PARTS, qwen3, 3, weight_type, |gpu, random, model, _| {
            parts(gpu, random, model)
        }));
    }
    for (form, weight_type) in [(masked_bert as fn(usize) -> Spec, F32), (masked_bert, F16), (masked_modernbert, F32)] {
        all.push(points("encoder", form, 2, weight_type));
    }
    let decoders = [(llama as fn(usize) -> Spec, F32), (llama, F16), (gemma, F32), (olmo, F32), (neox, F32)];
    let more = [(gpt2 as fn(usize) -> Spec, Bf16), (qwen3, F32), (qwen3, Q8_0), (qwen3, Q4_0), (qwen3, Q4K)];
    for (form, weight_type) in decoders.into_iter().chain(more).chain([(qwen3 as fn(usize) -> Spec, Q5K), (qwen3, Q6K)])
    {
        all.push(points("decoder", form, 4, weight_type));
        all.push(piece("decoder", "steps, alone and beside others", STREAM, form, 4, weight_type, steps));
        all.push(piece("decoder", "taps and forms change no bit", 0.0, form, 4, weight_type, taps));
    }
    for matmul in Form::ALL.into_iter().filter(|form| form.cooperates()) {
        let what = |what: &str| format!("{what}, by {}", matmul.name());
        let by = |kind, tolerance, form, weight_type, name, work: Work| {
            let work = move |gpu: &Gpu, random: &mut Random, model: &Model, choices| {
                let attention = attention_like(matmul);
                work(gpu, random, model, Choices { matmul, attention, ..choices })
            };
            Check { needs: matmul.needs(), ..piece(kind, &what(name), tolerance, form, 4, weight_type, work) }
        };
        let (points, vector, step) =
            ("every point of the stream", "vectors, alone and in batches", "steps, alone and beside others");
        for (form, weight_type) in [(bert as fn(usize) -> Spec, F16), (modernbert, Bf16)] {
            all.push(by("encoder", HALF_STREAM, form, weight_type, points, every_point));
            all.push(by("encoder", HALF_STREAM, form, weight_type, vector, vectors));
        }
        for (form, weight_type) in [(llama as fn(usize) -> Spec, F16), (qwen3, Q8_0), (qwen3, Q4K)] {
            all.push(by("decoder", HALF_STREAM, form, weight_type, points, every_point));
            all.push(by("decoder", HALF_STREAM, form, weight_type, step, steps));
        }
    }
    // as a GPU without cooperative matrices runs them
    let on_gpus = |kind, form, weight_type, what: &str, work: Work| {
        let work = move |gpu: &Gpu, random: &mut Random, model: &Model, choices| {
            let (matmul, matvec) = (Form::Workgroup, matvec::Form::Depth);
            let (attention, sums) = (attention::Form::Tile, Rows::Shared(Reduce::Workgroup));
            work(gpu, random, model, Choices { matmul, matvec, attention, sums, ..choices })
        };
        piece(kind, &format!("{what}, by forms for GPUs"), STREAM, form, 4, weight_type, work)
    };
    all.push(on_gpus("encoder", bert, F16, "vectors, alone and in batches", vectors));
    all.push(on_gpus("encoder", mpnet, F32, "every point of the stream", every_point));
    all.push(on_gpus("decoder", llama, F16, "steps, alone and beside others", steps));
    all.push(on_gpus("decoder", gemma, F32, "steps, alone and beside others", steps));
    for form in [bert as fn(usize) -> Spec, qwen3] {
        all.push(Check {
            full: true,
            ..points(if form(1).is_decoder() { "decoder" } else { "encoder" }, form, 16, F32)
        });
    }
    all
}

/// The form of attention by the same matrices as a product's.
fn attention_like(matmul: Form) -> attention::Form {
    let same = attention::Form::ALL.into_iter().find(|form| form.needs() == matmul.needs());
    same.unwrap_or(attention::Form::Tile)
}

type Work = fn(&Gpu, &mut Random, &Model, Choices) -> Result<f64, Wrong>;

fn piece(
    kind: &'static str,
    what: &str,
    tolerance: f64,
    form: fn(usize) -> Spec,
    layers: usize,
    weight_type: WeightType,
    work: impl Fn(&Gpu, &mut Random, &Model, Choices) -> Result<f64, Wrong> + Send + Sync + 'static,
) -> Check {
    let blocks = if layers == 1 { String::new() } else { format!(" of {layers} blocks") };
    let name = format!("{kind}{blocks}, {}, {}: {what}", form(1).model_type, weight_type.name());
    let check = Check::new(kind, name, move |gpu, random| {
        let model = Model::new(form(layers), weight_type, random);
        work(gpu, random, &model, Choices::of(gpu.capabilities()))
    });
    Check { tolerance, ..check }
}

fn points(kind: &'static str, form: fn(usize) -> Spec, layers: usize, weight_type: WeightType) -> Check {
    piece(kind, "every point of the stream", STREAM, form, layers, weight_type, every_point)
}

/// The model's buffers on the GPU.
pub(crate) fn upload(gpu: &Gpu, model: &Model) -> Result<Arc<[wgpu::Buffer]>> {
    use wgpu::BufferUsages as U;
    let upload = |stored: &Vec<u8>| {
        let mut bytes = stored.clone();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let buffer = gpu.buffer("random weight", bytes.len() as u64, U::STORAGE | U::COPY_DST)?;
        pollster::block_on(gpu.upload(&buffer, 0, &bytes))?;
        Ok(buffer)
    };
    model.weights.iter().map(upload).collect()
}

pub(super) fn ids(random: &mut Random, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|_| random.below(VOCABULARY) as u32).collect()
}

pub(crate) fn program(
    gpu: &Gpu,
    model: &Model,
    weights: &Arc<[wgpu::Buffer]>,
    purpose: &Purpose,
    choices: Choices,
    points: &[Point],
) -> Result<Program> {
    let recording = record(&model.spec, &model.tensors, purpose, choices, &Watch::taps(points));
    Program::new(gpu, recording, Arc::clone(weights))
}

/// Whole sequences, one behind another.
pub(crate) fn batch(model: &Model, program: &Program, sequences: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::of(program.recording());
    for ids in sequences {
        for rope in 0..model.spec.ropes.len() {
            batch.push_angles(rope, &model.angles(rope, ids.len(), 0..ids.len()));
        }
        batch.push(ids.iter().zip(0..).map(|(&id, position)| (id, position, 0)), 0);
    }
    batch
}

pub(super) fn run(program: &Program, batch: &Batch) -> Result<Outcome> {
    pollster::block_on(program.run(batch))
}

/// The error of one result, or what is wrong with it.
pub(crate) fn compared(name: &str, out: &[f32], expected: &[f64], tolerance: f64) -> Result<f64, Wrong> {
    let error = relative_error(out, expected);
    if error <= tolerance {
        return Ok(error);
    }
    let off = |i: &usize| (f64::from(out[*i]) - expected[*i]).abs();
    let worst = (0..out.len().min(expected.len())).max_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(0);
    let (found, wanted) = (out.get(worst), expected.get(worst));
    let what = format!("{name}: relative error {error:.2e}, worst at {worst}: {found:?} instead of {wanted:?}");
    Err(Wrong::Numbers(super::Fault { error, what }))
}

/// Every point of the model beside the host's forward.
fn every_point(gpu: &Gpu, random: &mut Random, model: &Model, choices: Choices) -> Result<f64, Wrong> {
    let weights = upload(gpu, model)?;
    let points: Vec<_> = Point::of_model(&model.spec).into_iter().filter(|p| p.kind != Kind::Pattern).collect();
    let program = program(gpu, model, &weights, &Purpose::Trace, choices, &points)?;
    let ids = ids(random, 37);
    let outcome = run(&program, &batch(model, &program, std::slice::from_ref(&ids)))?;
    let passed = model.forward(&ids);
    let (mut worst, mut seen) = (0f64, 0);
    for (capture, data) in program.recording().captures.iter().zip(&outcome.captures) {
        for (point, columns) in &capture.points {
            let rows = data.chunks_exact(capture.columns);
            let found: Vec<f32> = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
            let Some((_, expected)) = passed.points.iter().find(|(known, _)| known == point) else { continue };
            worst = worst.max(compared(&point.to_string(), &found, expected, allowed(model, choices))?);
            seen += 1;
        }
    }
    if seen == points.len() { Ok(worst) } else { Err(Wrong::bits(format!("{seen} of {} points", points.len()))) }
}

/// Vectors beside the host's; the same bits a second time, and of each text alone.
fn vectors(gpu: &Gpu, random: &mut Random, model: &Model, choices: Choices) -> Result<f64, Wrong> {
    let weights = upload(gpu, model)?;
    let modes = [Pooling::Mean, Pooling::Max];
    let purpose = Purpose::Embed(Head { pooling: modes.into(), normalize: true });
    let program = program(gpu, model, &weights, &purpose, choices, &[])?;
    let texts: Vec<_> = [5, 1, 33, 17].map(|tokens| ids(random, tokens)).into();
    let all = run(&program, &batch(model, &program, &texts))?.output;
    if words(&all) != words(&run(&program, &batch(model, &program, &texts))?.output) {
        return Err(Wrong::bits("two runs of a batch differ".into()));
    }
    let mut worst = 0f64;
    for (i, text) in texts.iter().enumerate() {
        let width = all.len() / texts.len();
        let found = &all[i * width..(i + 1) * width];
        let alone = run(&program, &batch(model, &program, std::slice::from_ref(text)))?.output;
        if words(&alone) != words(found) {
            return Err(Wrong::bits(format!("the vector of text {i} is another alone than in a batch")));
        }
        let passed = model.forward(text);
        let last = passed.points.iter().find(|(point, _)| point.kind == Kind::FinalNormalized);
        let rows = last.map_or(&passed.stream, |(_, normed)| normed);
        let vector = model.vector(rows, &modes);
        worst = worst.max(compared(&format!("the vector of text {i}"), found, &vector, allowed(model, choices))?);
    }
    Ok(worst)
}

fn words(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The stream after the last block has the same bits whatever else is asked for, and with every form of the products that
/// sums in one order.
fn taps(gpu: &Gpu, random: &mut Random, model: &Model, choices: Choices) -> Result<f64, Wrong> {
    let weights = upload(gpu, model)?;
    let ids = ids(random, 37);
    let last = Point::of_model(&model.spec).into_iter().rfind(|p| {
        p.block + 1 == model.spec.num_hidden_layers && matches!(p.kind, Kind::ResidPost | Kind::NormalizedResidPost)
    });
    let Some(last) = last else { return Err(Wrong::bits("a model without a block".into())) };
    let stream = |choices: Choices, points: &[Point]| -> Result<Vec<u32>> {
        let program = program(gpu, model, &weights, &Purpose::Trace, choices, points)?;
        let outcome = run(&program, &batch(model, &program, std::slice::from_ref(&ids)))?;
        let captures = program.recording().captures.iter().zip(outcome.captures);
        let mut own = captures.filter(|(capture, _)| capture.points.iter().any(|(point, _)| *point == last));
        Ok(own.next().map_or(Vec::new(), |(_, data)| words(&data)))
    };
    let plain = stream(choices, &[last])?;
    if plain.is_empty() || plain != stream(choices, &Point::of_model(&model.spec))? {
        return Err(Wrong::bits(format!("{last} is another when every point is asked for")));
    }
    let ordered = Choices { matmul: Form::Register, ..choices };
    let plain = if choices.matmul.cooperates() { stream(ordered, &[last])? } else { plain };
    for matmul in Form::on(gpu.capabilities()).filter(|form| !form.cooperates()) {
        if plain != stream(Choices { matmul, ..choices }, &[last])? {
            return Err(Wrong::bits(format!("{last} is another with products of the form {matmul:?}")));
        }
    }
    for attention in attention::Form::on(gpu.capabilities()).filter(|form| !form.cooperates()) {
        if plain != stream(Choices { attention, ..ordered }, &[last])? {
            return Err(Wrong::bits(format!("{last} is another with attention of the form {attention:?}")));
        }
    }
    Ok(0.0)
}

/// Prompts in chunks through a cache, then a step of each session: logits beside the host's, and the same bits alone, beside
/// others, and however the prompt was cut.
fn steps(gpu: &Gpu, random: &mut Random, model: &Model, choices: Choices) -> Result<f64, Wrong> {
    let weights = upload(gpu, model)?;
    let prefill = program(gpu, model, &weights, &Purpose::Prefill, choices, &[])?;
    let step = program(gpu, model, &weights, &Purpose::Logits, choices, &[])?;
    let sessions: Vec<_> = [40, 1, 23].map(|tokens| ids(random, tokens)).into();
    let width = 2 * model.spec.num_key_value_heads * model.spec.head_size;
    let rows = sessions.len() as u32 * PAGE;
    let cache = |_| gpu.buffer("cache", 4 * u64::from(rows) * width as u64, wgpu::BufferUsages::STORAGE);
    // two caches: one of prompts in one go, one of prompts in chunks
    let mut logits = Vec::new();
    for (version, cuts) in [(1, vec![1000]), (2, vec![3, 8, 21])] {
        let buffers: Vec<_> = (0..model.spec.num_hidden_layers).map(cache).collect::<Result<_>>()?;
        let view = CacheView { buffers: &buffers, rows, version };
        for (page, ids) in sessions.iter().enumerate() {
            let mut from = 0;
            while from + 1 < ids.len() {
                let to = cuts.iter().copied().find(|cut| *cut > from).unwrap_or(usize::MAX).min(ids.len() - 1);
                let batch = cached(model, &prefill, &[(page, ids, from..to)]);
                pollster::block_on(prefill.start(&batch, Some(view))?.finish())?;
                from = to;
            }
        }
        let last = |page: usize| (page, &sessions[page], sessions[page].len() - 1..sessions[page].len());
        let all: Vec<_> = (0..sessions.len()).map(last).collect();
        let beside = pollster::block_on(step.start(&cached(model, &step, &all), Some(view))?.finish())?.output;
        for (page, beside) in beside.chunks_exact(VOCABULARY).enumerate() {
            let batch = cached(model, &step, &[last(page)]);
            let alone = pollster::block_on(step.start(&batch, Some(view))?.finish())?.output;
            if words(&alone) != words(beside) {
                return Err(Wrong::bits(format!("session {page} is another alone than beside others")));
            }
        }
        logits.push(beside);
    }
    if words(&logits[0]) != words(&logits[1]) {
        return Err(Wrong::bits("a prompt in chunks gives another step".into()));
    }
    let mut worst = 0f64;
    for (i, (ids, found)) in sessions.iter().zip(logits[0].chunks_exact(VOCABULARY)).enumerate() {
        let passed = model.forward(ids);
        let Some((_, all)) = passed.points.iter().find(|(point, _)| point.kind == Kind::Logits) else { continue };
        worst = worst.max(compared(
            &format!("logits of session {i}"),
            found,
            &all[all.len() - VOCABULARY..],
            allowed(model, choices),
        )?);
    }
    Ok(worst)
}

/// Parts of sessions whose cache is the page of that number.
fn cached(model: &Model, program: &Program, parts: &[(usize, &Vec<u32>, std::ops::Range<usize>)]) -> Batch {
    let mut batch = Batch::of(program.recording());
    for (page, ids, range) in parts {
        batch.push_cached(&ids[range.clone()], range.start as u32, &[*page as u32], None, &[]);
        for rope in 0..model.spec.ropes.len() {
            batch.push_angles(rope, &model.angles(rope, ids.len(), range.clone()));
        }
    }
    batch
}
