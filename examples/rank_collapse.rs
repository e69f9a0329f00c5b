//! Attention alone makes all tokens the same, and residual connections keep them apart: the rank residual of randomly
//! initialised stacks, block by block: `cargo run --release --example rank_collapse -- [F.svg]`
//!
//! 12 blocks, d 128, 8 heads, 64 tokens, Xavier-normal weights, N(0, 1) input, no FFN, mean of five seeds; after Dong,
//! Cordonnier and Loukas, "Attention is not all you need" (2021). The stacks are no model's files: specs and weights are made
//! here, and a residual connection is closed by an edit. Exits with an error where the collapse does not show.
use anyhow::{Result, ensure};
use thalweg::check::Random;
use thalweg::kernels::WeightType;
use thalweg::model::{Biases, Block, BlockSpec, Chunk, Linear, Matrix, Norm, Placement, Positions, Spec, Tensors};
use thalweg::schedule::{Batch, Choices, Operation, Program, Purpose, RowEdit, Slot, Watch, record};
use thalweg::stream::{Kind, Point, Tap, rank_residual};
use thalweg::{Gpu, GpuOptions};

const D: usize = 128;
const HEADS: usize = 8;
const BLOCKS: usize = 12;
const TOKENS: usize = 64;
const SEEDS: u64 = 5;

/// A curve: what it is called, its colour, where norms stand if there are any, and whether the connections are open.
const STACKS: [(&str, &str, Option<Placement>, bool); 4] = [
    ("no skip", "#c0392b", None, false),
    ("skip", "#2471a3", None, true),
    ("skip, post-norm", "#7d3c98", Some(Placement::Post), true),
    ("skip, pre-norm", "#1e8449", Some(Placement::Pre), true),
];

fn main() -> Result<()> {
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let mut curves = Vec::new();
    for (name, colour, norms, open) in STACKS {
        let mut mean = vec![0.0; BLOCKS + 1];
        for seed in 0..SEEDS {
            let curve = stack(&gpu, seed, norms, open)?;
            mean.iter_mut().zip(curve).for_each(|(mean, x)| *mean += x / SEEDS as f64);
        }
        let numbers: Vec<_> = mean.iter().map(|x| format!("{x:.1e}")).collect();
        println!("{name:16} {}", numbers.join(" "));
        curves.push((name, colour, mean));
    }
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(path, plot(&curves))?;
    }
    ensure!(curves[0].2[4] < 1e-5, "without skips the rank residual is {:e} behind block 4", curves[0].2[4]);
    ensure!(curves[1].2[BLOCKS] > 0.1, "with skips the rank residual is {:e} behind the last", curves[1].2[BLOCKS]);
    Ok(())
}

/// The rank residual of the input and behind every block.
fn stack(gpu: &Gpu, seed: u64, norms: Option<Placement>, open: bool) -> Result<Vec<f64>> {
    let mut random = Random::new(seed + 1);
    let mut weights = Vec::new();
    let mut keep = |values: Vec<f32>| {
        weights.push(buffer(gpu, &values));
        Slot::Weight(weights.len() - 1)
    };
    let norm = norms.map(|_| Norm { gamma: keep(vec![1.0; D]), beta: Some(keep(vec![0.0; D])) });
    let mut linear = |rows: usize, columns: usize, spread: f32| {
        let values = (0..rows * columns).map(|_| spread * normal(&mut random)).collect();
        let chunk = Chunk { slot: keep(values), weight_type: WeightType::F32, first_row: 0, rows };
        Linear { weight: Matrix { rows, columns, chunks: vec![chunk] }, bias: Vec::new() }
    };
    let xavier = (2.0 / (D + D) as f32).sqrt();
    let mut block = || Block {
        attention_norm: norm,
        qkv: linear(3 * D, D, xavier),
        qk_norms: None,
        o: linear(D, D, xavier),
        attention_post_norm: None,
        mlp_norm: None,
        up: linear(4, D, 0.0), // an FFN that adds zeros
        down: linear(D, 4, 0.0),
        mlp_post_norm: None,
    };
    let tensors = Tensors {
        words: Matrix { rows: 1, columns: D, chunks: Vec::new() }, // the stream comes with the batch
        positions: None,
        types: None,
        embedding_norm: None,
        relative_bias: None,
        blocks: (0..BLOCKS).map(|_| block()).collect(),
        final_norm: None,
        head: None,
        dense: Vec::new(),
    };
    let spec = Spec {
        hidden_size: D,
        num_hidden_layers: BLOCKS,
        num_attention_heads: HEADS,
        num_key_value_heads: HEADS,
        head_size: D / HEADS,
        intermediate_size: 4,
        vocab_size: 1,
        max_position_embeddings: TOKENS,
        positions: Positions::Rotary,
        placement: norms.unwrap_or(Placement::Pre),
        blocks: vec![BlockSpec::full(D / HEADS); BLOCKS],
        biases: Biases { qkv: false, o: false, mlp: false },
        ..Spec::neutral()
    };
    // in post-norm blocks the stream behind attention's norm: there is no other here
    let kind = if norms == Some(Placement::Post) { Kind::NormalizedResidMid } else { Kind::ResidPost };
    let points = |kind| (0..BLOCKS).map(move |l| Point::new(l, kind));
    let taps = std::iter::once(Point::new(0, Kind::ResidPre)).chain(points(kind)).map(Tap::from).collect();
    let watch = Watch { taps, edits: points(Kind::AttnSkip).collect(), from: Some(0), ..Watch::default() };
    let recording = record(&spec, &tensors, &Purpose::Trace, Choices::of(gpu.capabilities()), &watch);
    let program = Program::new(gpu, recording, weights.into())?;
    let mut batch = Batch::of(program.recording());
    batch.push((0..TOKENS as u32).map(|i| (0, i, 0)), 0);
    let sites = &program.recording().sites;
    let mut random = Random::new(1000 + seed);
    for token in 0..TOKENS {
        let row: Vec<f32> = (0..D).map(|_| normal(&mut random)).collect();
        let (columns, operation, vector) = (0..D, Operation::Set, batch.vector(&row));
        let edit = RowEdit { token, part: 0, columns, operation, alpha: 1.0, vector };
        batch.edit(sites, 0, edit.clone());
        for site in (1..sites.len()).filter(|_| !open) {
            batch.edit(sites, site, RowEdit { operation: Operation::Scale, alpha: 0.0, ..edit.clone() });
        }
    }
    let outcome = pollster::block_on(program.run(&batch))?;
    Ok(outcome.captures.iter().map(|stream| rank_residual(stream, D)).collect())
}

/// N(0, 1), by Box and Muller.
fn normal(random: &mut Random) -> f32 {
    let uniform = |bits: u64| ((bits >> 40) as f32 + 0.5) / (1u64 << 24) as f32;
    let (u, v) = (uniform(random.bits()), uniform(random.bits()));
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn buffer(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let size = 4 * values.len() as u64;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let buffer = gpu.device().create_buffer(&descriptor);
    gpu.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    buffer
}

/// The curves over blocks, logarithmic down to 1e-8, where f32's rounding is all that is left.
fn plot(curves: &[(&str, &str, Vec<f64>)]) -> String {
    let x = |block: usize| 60.0 + 42.0 * block as f64;
    let y = |value: f64| 20.0 - 36.0 * value.max(1e-8).log10();
    let mut svg = String::from(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 720 360' font-family='sans-serif' font-size='12'>\
         <rect width='720' height='360' fill='white'/>",
    );
    for power in 0..=8 {
        let at = y(10f64.powi(-power));
        svg += &format!(
            "<path d='M60 {at}H564' stroke='#ddd'/><text x='52' y='{}' text-anchor='end'>{}</text>",
            at + 4.0,
            if power == 0 { "1".into() } else { format!("1e-{power}") }
        );
    }
    for block in 0..=BLOCKS {
        svg += &format!("<text x='{}' y='330' text-anchor='middle'>{block}</text>", x(block));
    }
    svg += "<text x='312' y='350' text-anchor='middle'>blocks passed; rank residual of the stream, mean of five seeds</text>";
    let mut lowest = 0.0;
    let mut by_end: Vec<_> = curves.iter().collect();
    by_end.sort_by(|a, b| b.2[BLOCKS].total_cmp(&a.2[BLOCKS]));
    for (name, colour, values) in by_end {
        let points: Vec<_> = values.iter().enumerate().map(|(l, v)| format!("{:.1},{:.1}", x(l), y(*v))).collect();
        svg += &format!("<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>", points.join(" "));
        // names do not cover each other
        lowest = (y(values[BLOCKS]) + 4.0).max(lowest + 14.0);
        svg += &format!("<text x='572' y='{lowest:.1}' fill='{colour}'>{name}</text>");
    }
    svg + "</svg>\n"
}
