//! `thalweg search`: the lines of text files that are nearest in meaning to a query.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use thalweg::{EmbedOptions, Error, Prompt};

use super::lines::{self, Line, Lines};
use super::{Context, count, progress, say};

const NOTES: &str = "Prints `score  file:line  text`, the best first; the score is the cosine of the two vectors. \
Blank lines are left out. The model's prompts for queries and documents are used where it has them.

Example:
  thalweg search --model all-MiniLM-L6-v2 \"how is it built?\" README.md --top 3";

/// Finds the lines of text files that are nearest in meaning to a query
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Search {
    /// Hugging Face or sentence-transformers folder, GGUF file, or the name of a model in the cache
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// What to look for
    query: String,
    /// Text files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How many lines to print
    #[arg(long, value_name = "N", default_value = "5")]
    top: NonZeroUsize,
    /// Prints one JSON object {"query","results":[{"score","file","line","text"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Hit {
    score: f64,
    file: String,
    line: u64,
    text: String,
}

impl Search {
    pub fn run(self, context: &Context) -> Result<()> {
        // before the model, so that a wrong name is told at once
        let mut size = Some(0);
        for file in &self.files {
            size = size.zip(Lines::open(file, false)?.size).map(|(a, b)| a + b);
        }
        let encoder = context.encoder(&self.model)?;
        let mut cut = 0;
        let mut embed = |texts: &[&str], prompt: &str, task| {
            let prompt = Prompt::Named(prompt.into());
            let options = EmbedOptions { prompt, task, ..Default::default() };
            let embeddings = pollster::block_on(encoder.embed_with(texts, &options))?;
            cut += embeddings.iter().filter(|e| e.untruncated > e.tokens).count() as u64;
            Ok::<_, Error>(embeddings)
        };
        let bar = progress::texts(size);
        let query = embed(&[&self.query], "query", progress::part(&bar, &context.cancel, 0))?.swap_remove(0).vector;
        let mut hits: Vec<Hit> = Vec::new();
        let mut source = self.files.iter().flat_map(|file| lines_of(file));
        loop {
            let (chunk, bytes) = lines::chunk(&mut source, |(_, line)| line.bytes)?;
            if chunk.is_empty() {
                break;
            }
            let texts: Vec<&str> = chunk.iter().map(|(_, line)| line.text.as_str()).collect();
            let embeddings = embed(&texts, "document", progress::part(&bar, &context.cancel, bytes))?;
            for ((file, line), embedding) in chunk.into_iter().zip(embeddings) {
                let score = cosine(&query, &embedding.vector);
                hits.push(Hit { score, file: file.display().to_string(), line: line.number, text: line.text });
            }
            // stable: of equals, the earlier line comes first
            hits.sort_by(|a, b| b.score.total_cmp(&a.score));
            hits.truncate(self.top.get());
        }
        bar.finish_and_clear();
        if cut > 0 {
            let most = encoder.max_tokens();
            let lines = count(cut, "text");
            say("warning", &format!("{lines} had more than {most} tokens, and only the first {most} count"));
        }
        self.print(&hits)?;
        Ok(())
    }

    fn print(&self, hits: &[Hit]) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            serde_json::to_writer(&mut out, &serde_json::json!({"query": self.query, "results": hits}))?;
            writeln!(out)?;
            return out.flush();
        }
        let places: Vec<_> = hits.iter().map(|hit| format!("{}:{}", hit.file, hit.line)).collect();
        let width = places.iter().map(|place| console::measure_text_width(place)).max().unwrap_or(0);
        let columns = io::stdout().is_terminal().then(|| console::Term::stdout().size().1 as usize);
        for (hit, place) in hits.iter().zip(&places) {
            let start = format!("{:.4}  {}", hit.score, console::pad_str(place, width, console::Alignment::Left, None));
            match columns {
                None => writeln!(out, "{start}  {}", hit.text)?,
                Some(columns) => {
                    // a file may not steer the terminal
                    let line = format!("{start}  {}", hit.text.trim()).replace(char::is_control, " ");
                    writeln!(out, "{}", console::truncate_str(&line, columns, "…"))?;
                }
            }
        }
        out.flush()
    }
}

/// The lines of a file that are not blank.
fn lines_of(file: &Path) -> Box<dyn Iterator<Item = thalweg::Result<(&Path, Line)>> + '_> {
    let filled = |line: &thalweg::Result<Line>| line.as_ref().map_or(true, |line| !line.text.trim().is_empty());
    match Lines::open(file, false) {
        Ok(lines) => Box::new(lines.filter(filled).map(move |line| Ok((file, line?)))),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

/// The cosine of the angle between two vectors; 0 where one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}
