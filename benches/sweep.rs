//! What a sweep costs beside the same runs one by one: every head of every block removed in turn, and all numbers the same to
//! the bit.
//!
//! `cargo bench --bench sweep` runs the embedded language model (logit and loss) and all-MiniLM-L6-v2 (cosine). CPU seconds are
//! those of the whole process, software drivers included; on a GPU the wall clock is what counts. Both ways are run in turn,
//! three times, after one of each; the least of each counts.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use thalweg::stream::{Component, Metric, Replacement, Sweep, ablations};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK, Task};

const TEXT: &str = "Ownership is a set of rules that govern how a Rust program manages memory. All programs have to manage \
the way they use a computer's memory while running. Some languages have garbage collection that regularly looks for memory \
that is no longer used as the program runs; in other languages, the programmer must explicitly allocate and free it.";

fn main() -> Result<()> {
    env_logger::init();
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    println!("{} ({})", gpu.info().name, gpu.info().driver_info);
    println!(
        "model             metric  tokens  runs  one by one: wall s    CPU s     sweep: wall s    CPU s   times faster: wall    CPU"
    );
    for name in [RUSTBOOK, "all-MiniLM-L6-v2"] {
        let model = Model::load_blocking(&gpu, thalweg::find_model(Path::new(name))?, Default::default())?;
        let all = model.encode(TEXT)?.ids;
        for tokens in [16, 64] {
            let ids = &all[..tokens];
            let metrics = match model.spec().is_decoder() {
                true => vec![Metric::Logit { target: 5, against: None, position: tokens - 1 }, Metric::Loss],
                false => vec![Metric::Cosine { to: (0..384).map(|i| (i % 7) as f32 - 3.0).collect() }],
            };
            for metric in metrics {
                row(name, &model, ids, metric)?;
            }
        }
    }
    Ok(())
}

fn row(name: &str, model: &Model, ids: &[u32], metric: Metric) -> Result<()> {
    let what = metric.name();
    let sweep = Sweep::new_blocking(model, ids, metric)?;
    let heads = Component::parse("heads", model.spec())?;
    let sets = pollster::block_on(ablations(model, ids.len(), &heads, &Replacement::Scale(0.0)))?;
    let mut best = [[f64::INFINITY; 2]; 2];
    for round in 0..4 {
        let mut values = Vec::new();
        for (way, best) in best.iter_mut().enumerate() {
            let (start, cpu) = (Instant::now(), cpu_seconds()?);
            values.push(match way {
                0 => pollster::block_on(sweep.run_one_by_one(&sets))?,
                _ => sweep.run_blocking(&sets, &Task::default())?,
            });
            let took = [start.elapsed().as_secs_f64(), cpu_seconds()? - cpu];
            // the first round warms up
            if round > 0 {
                *best = [best[0].min(took[0]), best[1].min(took[1])];
            }
        }
        let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        ensure!(bits(&values[0]) == bits(&values[1]), "the two ways differ");
    }
    let ([[wall, cpu], [sweep_wall, sweep_cpu]], runs, tokens) = (best, sets.len(), ids.len());
    println!(
        "{:<17} {what:<7} {tokens:>6} {runs:>5} {wall:>20.3} {cpu:>8.2} {sweep_wall:>17.3} {sweep_cpu:>8.2} {:>20.2} {:>6.2}",
        Path::new(name).file_name().unwrap_or_default().to_string_lossy(),
        wall / sweep_wall,
        cpu / sweep_cpu
    );
    Ok(())
}

/// Processor time of this process so far, user and system, in steps of 10 ms; Linux only.
fn cpu_seconds() -> Result<f64> {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return Ok(f64::NAN) };
    // after the name, which is in brackets: user and system time are the 12th and 13th
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    Ok((ticks(11) + ticks(12)) / 100.0)
}
