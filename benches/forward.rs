//! Forward benchmark: tokens/s of an encoder for several batch shapes, and where the time goes by kernel.
//!
//! `cargo bench --bench forward` runs all-MiniLM-L6-v2 from the cache; `THALWEG_MODEL` names another model.
//! Beside the clock's medians stands the processor time of the cheapest forward, which other work disturbs less.
//! Every forward is checked to give the same bits before it is timed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use thalweg::schedule::{Batch, Dims};
use thalweg::{Dtype, Encoder, Gpu, GpuOptions, LoadOptions};

/// Sentences in a batch, and words in each of them.
const SHAPES: [(usize, usize); 5] = [(1, 14), (1, 126), (16, 14), (64, 30), (8, 254)];
const REPETITIONS: usize = 7;

fn main() -> Result<()> {
    env_logger::init();
    let model = std::env::var_os("THALWEG_MODEL").map_or_else(|| PathBuf::from("all-MiniLM-L6-v2"), PathBuf::from);
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    println!("{} ({}), {}", gpu.info().name, gpu.info().driver_info, gpu.capabilities().summary());
    for dtype in [Dtype::F32, Dtype::F16] {
        let start = Instant::now();
        let options = LoadOptions { dtype, ..Default::default() };
        let encoder = pollster::block_on(Encoder::load_with(&gpu, &model, options)).context("the model")?;
        println!(
            "\n{dtype:?}: loaded in {:.2} s, {} MB of weights",
            start.elapsed().as_secs_f64(),
            encoder.weight_bytes() / 1_000_000
        );
        println!(
            "{:>10} {:>8} {:>10} {:>10} {:>8} {:>10}",
            "sentences", "tokens", "ms", "tokens/s", "GFLOP/s", "CPU ms"
        );
        for (sentences, words) in SHAPES {
            let texts = vec!["river ".repeat(words); sentences];
            time(&encoder, &encoder.batch(&texts)?, sentences)?;
        }
        if gpu.capabilities().timestamps {
            by_kernel(&encoder, &encoder.batch(&vec!["river ".repeat(126); 8])?)?;
        }
    }
    Ok(())
}

fn flops(encoder: &Encoder, dims: &Dims) -> f64 {
    let dispatches = encoder.program().recording().dispatches();
    dispatches.map(|d| d.work.flops * f64::from(dims.get(d.work.dim))).sum()
}

fn time(encoder: &Encoder, batch: &Batch, sentences: usize) -> Result<()> {
    let forward = || pollster::block_on(encoder.program().run(batch));
    let first = forward()?;
    let (mut seconds, mut least) = (Vec::new(), f64::INFINITY);
    for _ in 0..REPETITIONS {
        let (start, before) = (Instant::now(), cpu_seconds());
        let outcome = forward()?;
        seconds.push(start.elapsed().as_secs_f64());
        least = least.min(cpu_seconds() - before);
        ensure!(outcome == first, "two forwards differ");
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[REPETITIONS / 2];
    let dims = batch.dims();
    println!(
        "{sentences:>10} {:>8} {:>10.2} {:>10.0} {:>8.1} {:>10.2}",
        dims.tokens,
        median * 1e3,
        f64::from(dims.tokens) / median,
        flops(encoder, &dims) / median / 1e9,
        least * 1e3
    );
    Ok(())
}

/// Processor time of this process's threads that still run, in seconds; NaN where it is not Linux.
fn cpu_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}

/// Where a forward's time goes, by timestamps around each dispatch.
fn by_kernel(encoder: &Encoder, batch: &Batch) -> Result<()> {
    let mut sums: BTreeMap<String, (u32, f64, f64)> = BTreeMap::new();
    for dispatch in pollster::block_on(encoder.program().profile(batch))? {
        let sum = sums.entry(dispatch.label).or_default();
        *sum = (sum.0 + 1, sum.1 + dispatch.nanoseconds.unwrap_or(f64::NAN), sum.2 + dispatch.flops);
    }
    let total: f64 = sums.values().map(|s| s.1).sum();
    println!("\n{} tokens by kernel:", batch.dims().tokens);
    if total.is_nan() {
        println!("n/a: the device's clock stood still");
        return Ok(());
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (label, (count, nanoseconds, flops)) in rows {
        println!(
            "{:>6.1}% {:>9.3} ms {:>3}x {:>8.1} GFLOP/s  {label}",
            100.0 * nanoseconds / total,
            nanoseconds / 1e6,
            count,
            flops / nanoseconds
        );
    }
    Ok(())
}
