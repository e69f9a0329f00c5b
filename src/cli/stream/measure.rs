//! `thalweg stream measure`: what blocks contribute, how much they change the stream, and what attention looks at.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use thalweg::stream::{BlockMeasures, Contribution, Measures};

use super::super::Context;
use super::Subject;

const NOTES: &str = "Of each block, as means over tokens: the norm of what attention and FFN add, its ratio to the norm of the \
stream that it is added to, and the cosine of the two; Block Influence (1 - the cosine between the block's input and output); \
the rank residual of its output (0 where all tokens are the same); the largest element, massive activations (above 100 and \
above 1,000 times the median); the heads that pay more than 0.3 of their attention to the first token. With --json also \
linear CKA between all blocks' streams, attention rollout, and all heads' attention to the first token.

‖part‖, ‖part‖/‖stream‖, cos(part, stream); Block Influence 1 − E cos(x_l, x_{l+1}) (Men and others 2024); rank residual \
‖X − 1x̄ᵀ‖/‖X‖ with ‖·‖ = √(‖·‖₁·‖·‖∞) (Dong and others 2021); linear CKA ⟨K, L⟩/(‖K‖·‖L‖) of the centred XXᵀ (Kornblith and others \
2019); massive activations (Sun and others 2024); sinks: mean attention to the first token (Xiao and others 2023); rollout: \
product over blocks of (A + 1)/2, A the mean over heads (Abnar and Zuidema 2020).

Example:
  thalweg stream measure --model all-MiniLM-L6-v2 \"The river runs deep.\"";

/// Measures what each block does to the stream
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Measure {
    #[command(flatten)]
    subject: Subject,
    /// Prints everything as one JSON object
    #[arg(long)]
    json: bool,
}

impl Measure {
    pub fn run(self, context: &Context) -> Result<()> {
        let (model, ids) = self.subject.load(context)?;
        let measures = model.measure_blocking(&ids)?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", object(&measures))?;
        } else {
            write!(out, "{}", table(&measures))?;
        }
        Ok(())
    }
}

fn object(measures: &Measures) -> Value {
    let contribution = |c: &Contribution| json!({"norm": c.norm, "ratio": c.ratio, "cosine": c.cosine});
    let block = |(l, b): (usize, &BlockMeasures)| {
        let massive: Vec<_> = b
            .massive
            .iter()
            .map(|a| json!({"position": a.position, "dimension": a.dimension, "value": a.value}))
            .collect();
        json!({
            "block": l, "attention": contribution(&b.attention), "mlp": contribution(&b.mlp), "influence": b.influence,
            "rank_residual": b.rank_residual, "median": b.median, "largest": b.largest, "massive": massive,
            "sinks": b.sinks,
        })
    };
    let blocks: Vec<_> = measures.blocks.iter().enumerate().map(block).collect();
    json!({"ids": measures.ids, "blocks": blocks, "cka": measures.cka, "rollout": measures.rollout})
}

fn table(measures: &Measures) -> String {
    let mut text = String::from(
        "       attention              FFN                               rank\n\
         block  norm  ratio  cosine    norm  ratio  cosine  influence  residual  largest  massive  sinks\n",
    );
    for (l, b) in measures.blocks.iter().enumerate() {
        let sinks: Vec<_> = (0..b.sinks.len()).filter(|&head| b.sinks[head] > SINK).map(|h| h.to_string()).collect();
        let (a, m) = (&b.attention, &b.mlp);
        text += format!(
            "{l:>5}{:>7.2}{:>7.3}{:>8.3}{:>8.2}{:>7.3}{:>8.3}{:>11.4}{:>10.3}{:>9.1}{:>9}  {}",
            a.norm,
            a.ratio,
            a.cosine,
            m.norm,
            m.ratio,
            m.cosine,
            b.influence,
            b.rank_residual,
            b.largest,
            b.massive.len(),
            sinks.join(" ")
        )
        .trim_end();
        text.push('\n');
    }
    text
}

/// Heads that pay more than this to the first token are listed.
const SINK: f64 = 0.3;
