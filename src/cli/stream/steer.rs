//! `thalweg stream steer`: directions between two sets of prompts.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use thalweg::RUSTBOOK;
use thalweg::stream::{Over, Steering, parse_points};

use super::super::{Context, count};
use super::ablate::prompts;

const NOTES: &str = "The vector of a point is the mean of the positive prompts' rows less that of the negative ones'. The file \
has a tensor for each point under its full name, f32 [width], and the model's fingerprint. Where vectors are added: \
`thalweg generate --steer F@LAYER*ALPHA`, with models of the same width.

v = mean(x | positive) − mean(x | negative), and x' = x + ALPHA·v; after Turner and others, \"Activation Addition\" (2023), and \
Rimsky and others, \"Steering Llama 2 via Contrastive Activation Addition\" (2024).

--json prints one object: {\"out\",\"positive\",\"negative\",\"vectors\":[{\"point\",\"norm\"}]}; positive and negative are numbers of \
prompts.

Example:
  thalweg stream steer --positive calm.txt --negative angry.txt --points resid_post@3 --out calm.safetensors";

/// Makes steering vectors: the difference of means between two sets of prompts
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Steer {
    /// Folder of any model, GGUF file, or the name of one in the cache; else a small model of Rust's documentation
    #[arg(long, value_name = "M", default_value = RUSTBOOK, hide_default_value = true)]
    model: PathBuf,
    /// Prompts to steer towards, one a line
    #[arg(long, value_name = "FILE")]
    positive: PathBuf,
    /// Prompts to steer away from, one a line
    #[arg(long, value_name = "FILE")]
    negative: PathBuf,
    /// Points whose vectors are made, separated by commas
    #[arg(long, value_name = "P,…", default_value = "resid_post")]
    points: String,
    /// Takes the mean over each prompt's tokens instead of its last token
    #[arg(long)]
    mean: bool,
    /// File to write
    #[arg(long, value_name = "F.safetensors")]
    out: PathBuf,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Steer {
    pub fn run(self, context: &Context) -> Result<()> {
        let model = context.model(&self.model)?;
        let points = parse_points(&self.points, model.spec())?;
        let (positive, negative) = (prompts(&model, &self.positive)?, prompts(&model, &self.negative)?);
        let over = if self.mean { Over::Mean } else { Over::Last };
        let steering = Steering::between_blocking(&model, &positive, &negative, &points, over)?;
        let name = self.model.display().to_string();
        steering.save(&self.out, &[("model", &name), ("over", if self.mean { "mean" } else { "last" })])?;
        let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let mut out = io::stdout().lock();
        if self.json {
            let vectors = steering.vectors.iter();
            let vectors: Vec<_> =
                vectors.map(|(point, v)| json!({"point": point.to_string(), "norm": norm(v)})).collect();
            let (positive, negative) = (positive.len(), negative.len());
            let line = json!({"out": self.out, "positive": positive, "negative": negative, "vectors": vectors});
            return Ok(writeln!(out, "{line}")?);
        }
        for (point, vector) in &steering.vectors {
            writeln!(out, "{:<34} length {:>9.4}", point.to_string(), norm(vector))?;
        }
        let _ = writeln!(
            io::stderr(),
            "wrote {} of {} and {} to {}",
            count(steering.vectors.len() as u64, "vector"),
            count(positive.len() as u64, "positive prompt"),
            count(negative.len() as u64, "negative one"),
            self.out.display()
        );
        Ok(())
    }
}
