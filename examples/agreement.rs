//! How far two models of one vocabulary agree on a text: how often both give the next token the highest logit, and how far
//! apart their distributions are. The first is loaded with weights in f16. For a model and its quantised file:
//!
//!     cargo run --release --example agreement -- FOLDER FILE.gguf TEXT_FILE [POSITIONS]

use anyhow::{Context, Result, ensure};
use thalweg::stream::{Kind, Point};
use thalweg::{Dtype, Gpu, GpuOptions, LoadOptions, Model};

/// Tokens that the models see at a time.
const WINDOW: usize = 250;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!((3..=4).contains(&arguments.len()), "usage: agreement MODEL MODEL TEXT_FILE [POSITIONS]");
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let load = |path: &str, dtype| {
        let options = LoadOptions { dtype, ..Default::default() };
        Model::load_blocking(&gpu, path, options).context(path.to_string())
    };
    let (a, b) = (load(&arguments[0], Dtype::F16)?, load(&arguments[1], Dtype::Auto)?);
    let positions: usize = arguments.get(3).map_or(Ok(1000), |n| n.parse())?;
    let text = std::fs::read_to_string(&arguments[2])?;
    let ids = a.tokenizer()?.encode(&text, positions, false)?.ids;
    ensure!(b.tokenizer()?.encode(&text, positions, false)?.ids == ids, "the models' tokenizers disagree");
    ensure!(ids.len() == positions, "the text has {} tokens", ids.len());

    let (mut agreed, mut divergence) = (0, 0.0);
    for window in ids.chunks(WINDOW) {
        let (left, right) = (logits(&a, window)?, logits(&b, window)?);
        let width = left.len() / window.len();
        for (left, right) in left.chunks_exact(width).zip(right.chunks_exact(width)) {
            agreed += usize::from(best(left) == best(right));
            divergence += kl(left, right);
        }
    }
    let share = 100.0 * agreed as f64 / positions as f64;
    println!("{agreed} of {positions} positions agree on the next token ({share:.1} %)");
    println!("mean KL divergence {:.2e} nats", divergence / positions as f64);
    Ok(())
}

/// Of every token, row by row.
fn logits(model: &Model, ids: &[u32]) -> Result<Vec<f32>> {
    let mut trace = model.trace_blocking(ids, &[Point::new(0, Kind::Logits)])?;
    Ok(trace.tensors.pop_first().context("not a language model")?.1.data)
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Σ p (ln p − ln q), of the distributions that two rows of logits stand for.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let (p, q) = (log_softmax(p), log_softmax(q));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let most = f64::from(row[best(row)]);
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    row.iter().map(|&x| f64::from(x) - most - sum.ln()).collect()
}
