//! `thalweg stream tap`: what passes points of the stream, as tensors in a file.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use thalweg::files::safetensors::{self, TensorData, TensorOut};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{self, Look, Probe, Seen, Summary, Tensor, parse_taps};

use super::super::changes::Changes;
use super::super::{Context, count};
use super::Subject;

const NOTES: &str = "Points: hook_embed, blocks.{l}.hook_resid_pre, blocks.{l}.attn.hook_q|k|v|z|pattern|result, \
blocks.{l}.hook_attn_out, hook_resid_mid, hook_normalized_resid_mid, hook_mlp_out, hook_resid_post, \
hook_normalized_resid_post; or resid_post for every block, t1 to t5 and h, or all (all but patterns, results and what the \
residual connections carry).
Each may be narrowed: NAME@BLOCKS#HEADS:TOKENS, each a number or a range A..B without its end, all from 0: resid_post@3, \
z@0..2#5, pattern@1#0..4:8..12. Only that is captured and read; of a pattern TOKENS are queries.

The file has a tensor for each point under its full name, f32 [tokens, …] ([tokens, heads, …] of points with heads, [heads, \
tokens, keys] of patterns), and ids [tokens] i32, all of them; where a point was narrowed the metadata says to what.
With --summary K the GPU reduces each row, and the file has NAME.norm (‖x‖ = √Σx²) and NAME.mean, f32 [tokens] or [tokens, \
heads], NAME.top, f32 [tokens, K] or [tokens, heads, K], the elements of largest magnitude, and NAME.top_at, i32, their places \
(of equal ones first the first).

Example:
  thalweg stream tap --model all-MiniLM-L6-v2 \"The river runs deep.\" --points all --out stream.safetensors
  thalweg stream tap \"The river runs deep.\" --points pattern@1#0:3..5,logits:4 --out some.safetensors
  thalweg stream tap \"The river runs deep.\" --points resid_post,pattern --summary 3 --out largest.safetensors";

/// Writes what passes points of the stream into a safetensors file
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Tap {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    changes: Changes,
    /// Points to watch, separated by commas, each NAME[@BLOCKS][#HEADS][:TOKENS]
    #[arg(long, value_name = "P,…")]
    points: String,
    /// Writes norm, mean and the K largest elements of each row, which the GPU finds, instead of the rows; K is 0 to 64
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(..=64))]
    summary: Option<u8>,
    /// File to write
    #[arg(long, value_name = "F.safetensors")]
    out: PathBuf,
}

impl Tap {
    pub fn run(self, context: &Context) -> Result<()> {
        let (model, ids) = self.subject.load(context)?;
        let taps = parse_taps(&self.points, model.spec())?;
        let edits = self.changes.load(&model)?;
        let mut watch = match self.summary {
            None => Watch::taps(&taps),
            Some(top) => Watch { summaries: taps.clone(), top: top.into(), ..Watch::default() },
        };
        watch.edits = edits.iter().filter(|edit| !edit.is_nothing()).map(|edit| edit.point).collect();
        let probe = pollster::block_on(Probe::new(&model, &Purpose::Trace, watch))?;
        let seen = probe.run_blocking(&[Look { edits: &edits, ..Look::new(&ids) }])?.remove(0);
        let bytes = save(&seen, &taps, &self.out, &self.subject.model.display().to_string())?;
        let (points, tokens) = (count(taps.len() as u64, "point"), count(ids.len() as u64, "token"));
        let _ = writeln!(io::stderr(), "wrote {points} of {tokens} ({bytes} bytes) to {}", self.out.display());
        Ok(())
    }
}

/// Writes what was seen; returns the size of its tensors in bytes.
fn save(seen: &Seen, taps: &[stream::Tap], out: &Path, model: &str) -> Result<usize> {
    // ids are in the vocabulary, which is far below 2^31, and places below 2^24
    let ids: Vec<i32> = seen.trace.ids.iter().map(|&id| id as i32).collect();
    let of_rows =
        seen.trace.tensors.iter().map(|(point, tensor)| (point.to_string(), tensor.shape.clone(), &tensor.data));
    let mut floats: Vec<_> = of_rows.collect();
    let mut places = Vec::new();
    for (point, Summary { norm, mean, top, places: at }) in &seen.summaries {
        // points without heads have no axis for them
        let shape = |tensor: &Tensor| {
            let (mut shape, heads) = (tensor.shape.clone(), point.kind.has_heads());
            (!heads).then(|| shape.remove(1));
            shape
        };
        for (name, tensor) in [("norm", norm), ("mean", mean), ("top", top)] {
            floats.push((format!("{point}.{name}"), shape(tensor), &tensor.data));
        }
        let at: Vec<i32> = at.iter().map(|&place| i32::try_from(place).unwrap_or(-1)).collect();
        places.push((format!("{point}.top_at"), shape(top), at));
    }
    let tokens = [ids.len()];
    let mut tensors = vec![TensorOut { name: "ids", shape: &tokens, data: TensorData::I32(&ids) }];
    tensors.extend(floats.iter().map(|(name, shape, data)| TensorOut { name, shape, data: TensorData::F32(data) }));
    tensors.extend(places.iter().map(|(name, shape, at)| TensorOut { name, shape, data: TensorData::I32(at) }));
    let elements: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let metadata = [("model", model), ("thalweg", env!("CARGO_PKG_VERSION"))];
    let mut metadata: BTreeMap<String, String> = metadata.map(|(key, value)| (key.into(), value.into())).into();
    for tap in taps.iter().filter(|tap| tap.tokens.is_some() || tap.heads.is_some()) {
        metadata.insert(tap.point.to_string(), tap.to_string());
    }
    safetensors::write(out, &tensors, &metadata)?;
    Ok(elements * 4)
}
