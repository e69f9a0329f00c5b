//! What the programs of this comparison have in common: requests and answers as lines of JSON on stdin and stdout, and the
//! matrices that are multiplied, with the check of what comes out.

use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What `run.py` asks for, a line each.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The same product some times over, f32: `[m, k]` by `[k, n]`.
    Product { m: usize, n: usize, k: usize, times: usize },
    /// Sentences into vectors of length 1, `together` at a time where padding makes that a choice; `vectors` says whether
    /// they are wanted back.
    Embed { texts: Vec<String>, together: usize, vectors: bool },
}

/// What it is told, a line each.
#[derive(Default, Serialize)]
pub struct Answer {
    /// Of one product, or of all texts.
    pub seconds: f64,
    /// ‖out − ref‖ / ‖ref‖ of a product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<Vec<f32>>,
}

/// Says what it runs on, then answers requests until there are none.
pub fn serve(device: &str, mut answer: impl FnMut(Request) -> Result<Answer>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "device": device }))?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let request = serde_json::from_str(&line?).context("a request")?;
        writeln!(out, "{}", serde_json::to_string(&answer(request)?)?)?;
        out.flush()?;
    }
    Ok(())
}

/// Seconds of one of some equal runs that `run` does.
pub fn each(times: usize, run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() / times as f64)
}

/// Two matrices, row by row: `[m, k]` and `[k, n]`.
pub struct Factors {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub left: Vec<f32>,
    pub right: Vec<f32>,
}

impl Factors {
    /// Numbers from -1 to 1, the same for every peer.
    pub fn new(m: usize, n: usize, k: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(|_| next()).collect()
        };
        Factors { m, n, k, left: draw(m * k), right: draw(k * n) }
    }

    /// The right one transposed: `[n, k]`, as weights are stored.
    pub fn right_transposed(&self) -> Vec<f32> {
        let Factors { n, k, .. } = *self;
        (0..n * k).map(|i| self.right[i % k * n + i / k]).collect()
    }

    /// How far `[m, n]` is from the product in f64, over 8,192 elements all over it.
    pub fn error(&self, out: &[f32]) -> Result<f64> {
        let Factors { m, n, k, .. } = *self;
        anyhow::ensure!(out.len() == m * n, "{} elements where {} were due", out.len(), m * n);
        let (mut wrong, mut all) = (0.0, 0.0);
        for sample in 0..8192 {
            let i = sample * 2_654_435_761 % (m * n);
            let (row, column) = (i / n, i % n);
            let exact: f64 =
                (0..k).map(|j| f64::from(self.left[row * k + j]) * f64::from(self.right[j * n + column])).sum();
            wrong += (f64::from(out[i]) - exact).powi(2);
            all += exact.powi(2);
        }
        Ok((wrong / all).sqrt())
    }
}
