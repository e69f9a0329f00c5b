//! `thalweg embed`: texts to vectors, one JSON line each, in their order.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, Args};
use serde::Serialize;
use thalweg::{EmbedOptions, Embedding, Encoder, Prompt};

use super::lines::{self, Line, Lines};
use super::{Context, TUNED_TOKENS, count, log_times, progress, say};

const NOTES: &str = "Each line of standard output is {\"index\":0,\"tokens\":12,\"embedding\":[…]}, in the order of \
the inputs; index counts them from 0. A text that was cut to the model's length also has \"truncated_from\", its number \
of tokens before. Every line of the input is a text, an empty one too; a line ends with LF or CRLF and has at most 4 \
MiB. Lines of a .jsonl file are objects with a \"text\".

Example:
  thalweg embed --model all-MiniLM-L6-v2 \"to be\" \"or not to be\"
  thalweg embed --model all-MiniLM-L6-v2 --input sentences.txt > vectors.jsonl";

/// Turns texts into vectors
#[derive(Args)]
#[command(after_help = NOTES, group = ArgGroup::new("what").required(true).args(["texts", "input"]))]
pub struct Embed {
    /// Hugging Face or sentence-transformers folder, GGUF file, or the name of a model in the cache
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// Texts to embed
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// File whose lines are embedded; - is standard input
    #[arg(long, value_name = "FILE|-")]
    input: Option<PathBuf>,
    /// Leaves the vectors' lengths as they are
    #[arg(long)]
    no_normalize: bool,
    /// Most tokens that run at once; less takes less memory, and the vectors are the same
    #[arg(long, value_name = "N", default_value_t = default_batch(), value_parser = batch_tokens)]
    batch_tokens: usize,
    /// Which of the model's prompts is put in front of each text, instead of its default
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// After the first texts, finds out by timing which forms of the kernels are the fastest here, for this and later runs;
    /// the vectors are the same to the bit
    #[arg(long)]
    tune: bool,
}

fn default_batch() -> usize {
    EmbedOptions::default().batch_tokens
}

fn batch_tokens(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of tokens, 1 or more".into())
}

/// A line of the output.
#[derive(Serialize)]
struct Record<'a> {
    index: u64,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated_from: Option<usize>,
    embedding: &'a [f32],
}

impl Embed {
    pub fn run(self, context: &Context) -> Result<()> {
        // before the model, so that a wrong name is told at once
        let file = self.input.as_deref().map(|path| Lines::open(path, is_jsonl(path))).transpose()?;
        let mut encoder = context.encoder(&self.model)?;
        let prompt = self.prompt.map_or(Prompt::Default, Prompt::Named);
        let mut options = EmbedOptions {
            normalize: !self.no_normalize,
            batch_tokens: self.batch_tokens,
            prompt,
            ..Default::default()
        };
        let bar = progress::texts(file.as_ref().and_then(|file| file.size));
        let mut source: Box<dyn Iterator<Item = thalweg::Result<Line>>> = match file {
            Some(lines) => Box::new(lines),
            None => Box::new((1..).zip(self.texts).map(|(number, text)| {
                let bytes = text.len() as u64;
                Ok(Line { number, text, bytes })
            })),
        };
        let (mut tally, mut tune) = (Tally::default(), self.tune);
        loop {
            let (chunk, bytes) = lines::chunk(&mut source, |line| line.bytes)?;
            if chunk.is_empty() {
                break;
            }
            let texts: Vec<&str> = chunk.iter().map(|line| line.text.as_str()).collect();
            options.task = progress::part(&bar, &context.cancel, bytes);
            let embeddings = pollster::block_on(encoder.embed_with(&texts, &options))?;
            let lines = tally.lines(&embeddings)?;
            // the bar steps aside where both are on the terminal
            bar.suspend(|| print(&lines))?;
            bar.set_message(count(tally.texts, "text"));
            if std::mem::take(&mut tune) {
                log_times(&encoder.tune_blocking(TUNED_TOKENS)?);
            }
        }
        bar.finish_and_clear();
        tally.warn(&encoder);
        Ok(())
    }
}

fn is_jsonl(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
}

fn print(lines: &[u8]) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    out.write_all(lines)?;
    out.flush()
}

/// What has gone by so far.
#[derive(Default)]
struct Tally {
    texts: u64,
    cut: u64,
}

impl Tally {
    fn lines(&mut self, embeddings: &[Embedding]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for embedding in embeddings {
            let cut = embedding.untruncated > embedding.tokens;
            let record = Record {
                index: self.texts,
                tokens: embedding.tokens,
                truncated_from: cut.then_some(embedding.untruncated),
                embedding: &embedding.vector,
            };
            serde_json::to_writer(&mut out, &record)?;
            out.push(b'\n');
            self.texts += 1;
            self.cut += u64::from(cut);
        }
        Ok(out)
    }

    fn warn(&self, encoder: &Encoder) {
        if self.cut > 0 {
            let inputs = count(self.texts, "input");
            let most = encoder.max_tokens();
            say(
                "warning",
                &format!("{} of {inputs} had more than {most} tokens, and only the first {most} count", self.cut),
            );
        }
    }
}
