//! Products and sentences by thalweg, through its library. `peer-thalweg [MODEL f32|f16]`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use peers_common::{Answer, Factors, Request, each, serve};
use thalweg::kernels::WeightType;
use thalweg::kernels::activation::Activation;
use thalweg::kernels::embed::Embed;
use thalweg::kernels::matmul::{MatMul, Output, Product};
use thalweg::schedule::{Batch, Bounds, Choices, Command, Dim, Extent, Program, Recording, Scratch, Slot};
use thalweg::{Dtype, Encoder, Gpu, GpuOptions, LoadOptions};
use wgpu::BufferUsages;

fn main() -> Result<()> {
    env_logger::init();
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let encoder = match &arguments[..] {
        [] => None,
        [model, dtype] => {
            let dtype = if dtype == "f16" { Dtype::F16 } else { Dtype::F32 };
            Some(Encoder::load_with(&gpu, model, LoadOptions { dtype, ..Default::default() }))
        }
        _ => bail!("peer-thalweg [MODEL f32|f16]"),
    };
    let encoder = encoder.map(pollster::block_on).transpose()?;
    let mut programs: HashMap<[usize; 3], (Program, Batch, usize)> = HashMap::new();
    let device = format!("thalweg {}, {} ({})", env!("CARGO_PKG_VERSION"), gpu.info().name, gpu.info().driver_info);
    serve(&device, |request| match request {
        Request::Product { m, n, k, times } => {
            let mut answer = Answer::default();
            let found = programs.get(&[m, n, k]).is_some_and(|known| known.2 == times);
            if !found {
                let factors = Factors::new(m, n, k);
                let (program, batch) = products(&gpu, &factors, times)?;
                let outcome = pollster::block_on(program.run(&batch))?;
                answer.error = Some(factors.error(&outcome.output)?);
                programs.insert([m, n, k], (program, batch, times));
            }
            let (program, batch, _) = &programs[&[m, n, k]];
            answer.seconds = each(times, || Ok(drop(pollster::block_on(program.run(batch))?)))?;
            Ok(answer)
        }
        Request::Embed { texts, vectors, .. } => {
            let encoder = encoder.as_ref().context("no model was given")?;
            let start = Instant::now();
            let made = encoder.embed_blocking(&texts)?;
            let seconds = start.elapsed().as_secs_f64();
            Ok(Answer { seconds, vectors: if vectors { made } else { Vec::new() }, ..Answer::default() })
        }
    })
}

/// A program that puts the rows of the left matrix into the stream and multiplies it that often. What it does beside
/// the products, with the way back of the last one, counts as theirs.
fn products(gpu: &Gpu, factors: &Factors, times: usize) -> Result<(Program, Batch)> {
    let Factors { m, n, k, .. } = *factors;
    let weights: Arc<[wgpu::Buffer]> = Arc::new([buffer(gpu, &stored(&factors.left, k)), buffer(gpu, &stored(&factors.right_transposed(), k))]);
    let embed = Embed {
        weight: WeightType::F32,
        words: Slot::Weight(0),
        first_row: 0,
        rows: m,
        columns: k,
        positions: None,
        types: None,
        scale: 1.0,
    };
    let form = Choices::of(gpu.capabilities()).matmul;
    let product = Product {
        weight_type: WeightType::F32,
        input: Slot::Stream,
        rows: MatMul::TOKENS,
        weight: Slot::Weight(1),
        columns: n,
        depth: k,
        bias: None,
        activation: Activation::None,
        output: Output::Store(Slot::Scratch(0)),
        out_columns: n,
        out_first: 0,
    };
    let mut commands = vec![Command::Dispatch(embed.dispatch())];
    for _ in 0..times {
        commands.extend([Command::Dispatch(MatMul { form, product }.dispatch()), Command::Boundary]);
    }
    let size = Extent::new(n as u64, Dim::Tokens);
    let recording = Recording {
        commands,
        d_model: k,
        scratch: vec![Scratch { name: "product", size }],
        output: Some((Slot::Scratch(0), size)),
        tile: 32,
        bounds: Bounds { ids: m as u32, positions: u32::MAX, types: 1 },
        ..Recording::default()
    };
    let mut batch = Batch::new(recording.tile);
    batch.push((0..m as u32).map(|row| (row, 0, 0)), 0);
    Ok((Program::new(gpu, recording, weights)?, batch))
}

/// Rows of so many columns as weights lie on the GPU.
fn stored(values: &[f32], columns: usize) -> Vec<f32> {
    let zeros = vec![0.0; WeightType::F32.stride(columns) - columns];
    values.chunks(columns).flat_map(|row| [row, &zeros].concat()).collect()
}

fn buffer(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes.len() as u64,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    gpu.queue().write_buffer(&buffer, 0, &bytes);
    buffer
}
