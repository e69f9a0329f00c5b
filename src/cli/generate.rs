//! `thalweg generate`: a language model continues a text.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{ArgGroup, Args};
use serde::Serialize;
use thalweg::{Decoder, Error, LoadOptions, RUSTBOOK, Session, SessionOptions, TextStream};

use super::changes::Changes;
use super::choice::Choice;
use super::{Context, Ids, TUNED_TOKENS, count, log_times, progress, say};

const NOTES: &str = "The text is printed as it is written, whole characters at a time, without the prompt. It ends after \
--max-tokens, at a token that ends a text (generation_config.json), or before a --stop text. Temperature 0 always takes \
the most probable token; above it, the same seed gives the same text.

--json prints one object at the end: {\"prompt_ids\":[…],\"ids\":[…],\"text\":\"…\",\"stop\":\"length|eos|stop\",\
\"timings\":{\"load_s\",\"prefill_tokens_per_s\",\"decode_tokens_per_s\",\"first_token_s\"},\
\"dispatches\":{\"prefill_chunk\",\"decode_step\"}}

Example:
  thalweg generate --model SmolLM2-135M --prompt \"The river\" --max-tokens 64
  thalweg generate --prompt \"Ownership is\" --steer calm.safetensors@3*2";

/// Continues a text with a language model
#[derive(Args)]
#[command(after_help = NOTES, allow_negative_numbers = true, group = ArgGroup::new("what").required(true).args(["prompt", "ids"]))]
pub struct Generate {
    /// Hugging Face folder, GGUF file, or the name of a model in the cache; else a small model of Rust's documentation
    #[arg(long, value_name = "M", default_value = RUSTBOOK, hide_default_value = true)]
    model: PathBuf,
    /// The text to continue; the tokenizer's special tokens are put in front where it has some
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids to continue instead, taken as they are
    #[arg(long)]
    ids: Option<Ids>,
    /// Most tokens that are written
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    changes: Changes,
    /// Prints one JSON object at the end instead of the text
    #[arg(long)]
    json: bool,
    /// After the text, finds out by timing which forms of the kernels read prompts the fastest here, for later runs; texts
    /// are the same
    #[arg(long)]
    tune: bool,
}

/// Why the text has ended.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stop {
    Length,
    Eos,
    #[serde(rename = "stop")]
    Text,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    prompt_ids: &'a [u32],
    ids: &'a [u32],
    text: Option<String>,
    stop: Stop,
    timings: Timings,
    dispatches: Dispatches,
}

#[derive(Serialize)]
struct Timings {
    load_s: f64,
    prefill_tokens_per_s: Option<f64>,
    decode_tokens_per_s: Option<f64>,
    first_token_s: Option<f64>,
}

#[derive(Serialize)]
struct Dispatches {
    prefill_chunk: usize,
    decode_step: usize,
}

/// What was written, and when.
struct Written {
    ids: Vec<u32>,
    text: String,
    stop: Stop,
    prefill: Duration,
    first: Option<Duration>,
    decode: Duration,
}

impl Generate {
    pub fn run(self, context: &Context) -> Result<()> {
        let sampling = self.choice.sampling();
        let start = Instant::now();
        let mut decoder = context.decoder(&self.model, LoadOptions::default())?;
        let load = start.elapsed();
        let prompt = match (&self.ids, &self.prompt) {
            (Some(Ids(ids)), _) => ids.clone(),
            (None, text) => {
                let text = text.as_deref().unwrap_or_default();
                decoder.model().tokenizer()?.encode(text, usize::MAX, true)?.ids
            }
        };
        if prompt.is_empty() {
            return Err(Error::Input("the prompt has no tokens".into()).into());
        }
        let options = SessionOptions {
            sampling,
            ignore_eos: self.choice.ignore_eos,
            edits: self.changes.load(decoder.model())?.into(),
            // most texts end long before a generous limit; the cache grows by itself
            reserve: prompt.len() + self.max_tokens.min(1024),
            ..Default::default()
        };
        let session = decoder.session(options)?;
        let written = self.write(context, &decoder, session, &prompt)?;
        if self.json {
            let text = decoder.model().tokenizer().is_ok().then(|| written.text.clone());
            let dispatches = |program: &thalweg::schedule::Program| program.recording().dispatches().count();
            let report = Report {
                prompt_ids: &prompt,
                ids: &written.ids,
                text,
                stop: written.stop,
                timings: written.timings(load, prompt.len()),
                dispatches: Dispatches {
                    prefill_chunk: dispatches(decoder.prefill_program()),
                    decode_step: dispatches(decoder.decode_program()),
                },
            };
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            written.summary(load, prompt.len());
        }
        if self.tune {
            log_times(&decoder.tune_blocking(TUNED_TOKENS)?);
        }
        Ok(())
    }

    fn write(&self, context: &Context, decoder: &Decoder, mut session: Session, prompt: &[u32]) -> Result<Written> {
        let stops: Vec<&str> = self.choice.stop.iter().map(String::as_str).collect();
        let mut stream = match decoder.model().tokenizer() {
            Ok(tokenizer) => Some(TextStream::new(tokenizer, &stops)?),
            // without a tokenizer the ids are the result
            Err(_) if self.prompt.is_none() && self.choice.stop.is_empty() => None,
            Err(error) => return Err(error.into()),
        };
        let mut written = Written {
            ids: Vec::new(),
            text: String::new(),
            stop: Stop::Length,
            prefill: Duration::ZERO,
            first: None,
            decode: Duration::ZERO,
        };
        let bar = progress::reading(prompt.len() as u64);
        session.set_task(progress::task(&bar, &context.cancel));
        let start = Instant::now();
        let outcome = session.prefill_blocking(prompt);
        bar.finish_and_clear();
        outcome?;
        written.prefill = start.elapsed();
        while written.ids.len() < self.max_tokens {
            let step = session.next_token_blocking();
            if matches!(step, Err(Error::Cancelled)) && !self.json {
                println!(); // the shell's prompt begins on a line of its own
            }
            let Some(id) = step? else {
                written.stop = Stop::Eos;
                break;
            };
            written.first.get_or_insert(start.elapsed());
            written.ids.push(id);
            let piece = match &mut stream {
                Some(stream) => stream.push(id)?,
                None => format!("{id} "),
            };
            self.show(&mut written, &piece)?;
            if stream.as_ref().is_some_and(TextStream::stopped) {
                written.stop = Stop::Text;
                break;
            }
        }
        written.decode = start.elapsed().saturating_sub(written.first.unwrap_or_default());
        if let Some(stream) = &mut stream {
            let rest = stream.finish()?;
            self.show(&mut written, &rest)?;
        }
        if !self.json {
            writeln!(io::stdout())?;
        }
        Ok(written)
    }

    fn show(&self, written: &mut Written, piece: &str) -> Result<()> {
        written.text.push_str(piece);
        if !self.json && !piece.is_empty() {
            let mut out = io::stdout().lock();
            out.write_all(piece.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }
}

impl Written {
    fn timings(&self, load: Duration, prompt: usize) -> Timings {
        let rate =
            |tokens: usize, time: Duration| (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64());
        Timings {
            load_s: load.as_secs_f64(),
            // the prompt's last token is run with the first step
            prefill_tokens_per_s: rate(prompt.saturating_sub(1), self.prefill),
            decode_tokens_per_s: rate(self.ids.len().saturating_sub(1), self.decode),
            first_token_s: self.first.map(|time| time.as_secs_f64()),
        }
    }

    /// One line for a person who watches.
    fn summary(&self, load: Duration, prompt: usize) {
        if !io::stderr().is_terminal() {
            return;
        }
        let timings = self.timings(load, prompt);
        let speed = timings.decode_tokens_per_s.map_or_else(String::new, |rate| format!(", {rate:.1} tokens/s"));
        say(
            "done",
            &format!("{} after {}{speed}", count(self.ids.len() as u64, "token"), count(prompt as u64, "token")),
        );
    }
}
