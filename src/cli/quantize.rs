//! `thalweg quantize`: a Hugging Face folder to one GGUF file.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use thalweg::files::GgmlType;
use thalweg::model::to_gguf::write_gguf;

use super::{Context, count, progress};

const NOTES: &str = "Matrices are stored as said; where a row is not whole blocks of 32, as f16. Norms, biases, \
positions and types stay f32. Written are BERT, GPT-2, Llama, Mistral, Qwen 2 and 3, Gemma 2 and 3, and Phi-3, under \
the names and keys that llama.cpp reads; a model or tokenizer that it would read as something else is refused. \
OUT.gguf is replaced when all is written, and stays as it was after an error. No GPU is used.

Example:
  thalweg quantize --model Qwen3-0.6B --to q8_0 qwen3-0.6b-q8_0.gguf";

/// Writes a model as a GGUF file
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Quantize {
    /// Hugging Face or sentence-transformers folder, or the name of a model in the cache
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// How matrices are stored
    #[arg(long, value_name = "q8_0|q4_0|f16|f32", value_parser = stored)]
    to: GgmlType,
    /// File to write
    #[arg(value_name = "OUT.gguf")]
    out: PathBuf,
}

fn stored(name: &str) -> Result<GgmlType, String> {
    match name.to_ascii_lowercase().as_str() {
        "q8_0" => Ok(GgmlType::Q8_0),
        "q4_0" => Ok(GgmlType::Q4_0),
        "f16" => Ok(GgmlType::F16),
        "f32" => Ok(GgmlType::F32),
        _ => Err(format!("{name:?} is none of q8_0, q4_0, f16, f32")),
    }
}

impl Quantize {
    pub fn run(self, context: &Context) -> Result<()> {
        let model = thalweg::find_model(&self.model)?;
        let bar = progress::writing();
        let task = progress::task(&bar, &context.cancel);
        let written = write_gguf(&model, &self.out, self.to, &task)?;
        bar.finish_and_clear();
        let types: Vec<_> = written.types.iter().map(|(name, n)| format!("{n} {name}")).collect();
        let tensors = count(written.types.values().sum::<usize>() as u64, "tensor");
        let bytes = count(written.bytes, "byte");
        writeln!(io::stdout(), "{}: {tensors} ({}), {bytes}", self.out.display(), types.join(", "))?;
        Ok(())
    }
}
