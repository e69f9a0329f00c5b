//! `thalweg stream tap`: what passes points of the stream, as tensors in a file.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use thalweg::files::safetensors::{self, TensorData, TensorOut};
use thalweg::stream::{Trace, parse_points};

use super::super::changes::Changes;
use super::super::{Context, count};
use super::Subject;

const NOTES: &str = "Points: hook_embed, blocks.{l}.hook_resid_pre, blocks.{l}.attn.hook_q|k|v|z|pattern, \
blocks.{l}.hook_attn_out, hook_resid_mid, hook_normalized_resid_mid, hook_mlp_out, hook_resid_post, \
hook_normalized_resid_post; or resid_post for every block, resid_post@3 for one, t1 to t5 and h, or all (all but the \
patterns). The file has a tensor for each point under its full name, f32 [tokens, …], and ids [tokens] i32.

Example:
  thalweg stream tap --model all-MiniLM-L6-v2 \"The river runs deep.\" --points all --out stream.safetensors";

/// Writes what passes points of the stream into a safetensors file
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Tap {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    changes: Changes,
    /// Points to watch, separated by commas
    #[arg(long, value_name = "P,…")]
    points: String,
    /// File to write
    #[arg(long, value_name = "F.safetensors")]
    out: PathBuf,
}

impl Tap {
    pub fn run(self, context: &Context) -> Result<()> {
        let (model, ids) = self.subject.load(context)?;
        let points = parse_points(&self.points, model.spec())?;
        let trace = model.trace_edited_blocking(&ids, &points, &self.changes.load(&model)?)?;
        let bytes = save(&trace, &self.out, &self.subject.model.display().to_string())?;
        let (tensors, tokens) = (count(trace.tensors.len() as u64, "point"), count(ids.len() as u64, "token"));
        let _ = writeln!(io::stderr(), "wrote {tensors} of {tokens} ({bytes} bytes) to {}", self.out.display());
        Ok(())
    }
}

/// Writes the trace; returns the size of its tensors in bytes.
fn save(trace: &Trace, out: &Path, model: &str) -> Result<usize> {
    // the model has checked that they are in its vocabulary, which is far below 2^31
    let ids: Vec<i32> = trace.ids.iter().map(|&id| id as i32).collect();
    let names: Vec<String> = trace.tensors.keys().map(ToString::to_string).collect();
    let tokens = [ids.len()];
    let mut tensors = vec![TensorOut { name: "ids", shape: &tokens, data: TensorData::I32(&ids) }];
    let mut elements = ids.len();
    for (name, tensor) in names.iter().zip(trace.tensors.values()) {
        tensors.push(TensorOut { name, shape: &tensor.shape, data: TensorData::F32(&tensor.data) });
        elements += tensor.data.len();
    }
    let metadata = [("model", model), ("thalweg", env!("CARGO_PKG_VERSION"))];
    let metadata: BTreeMap<String, String> = metadata.map(|(key, value)| (key.into(), value.into())).into();
    safetensors::write(out, &tensors, &metadata)?;
    Ok(elements * 4)
}
