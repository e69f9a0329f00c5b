//! `thalweg stream lens`: what the model would say if it stopped at a block.

use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use thalweg::Model;
use thalweg::stream::{Distribution, Lens as LogitLens, LensRow, LensView, Reading};

use super::super::changes::Changes;
use super::super::{Context, progress};
use super::{Subject, token};

const NOTES: &str = "Each row of the stream goes through the model's own final norm and head, biases and soft cap \
included. A row for each block's input, then one for the last block's output, which is what the model says. Without --json \
a table of the likeliest tokens and their probabilities; with it also the entropy, the divergence of the final \
distribution from the row's (both in nats), and the rank of a token, 0 for the likeliest. An encoder whose folder holds no \
head for masked tokens gives the cosine of each row with the final one instead.

logits(x) = cap(W_U·Norm_f(x) + b_U), p = softmax(logits), entropy −Σ p log p, KL(q ‖ p) = Σ q (log q − log p) with q the final \
distribution; after nostalgebraist, \"interpreting GPT: the logit lens\" (2020), and Belrose and others, \"Eliciting Latent \
Predictions with the Tuned Lens\" (2023).

Example:
  thalweg stream lens \"A vector is a growable\" --target \" array\"";

/// Shows what the model would say if it stopped at a block
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Lens {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    changes: Changes,
    /// How many of the likeliest tokens, 64 at most; the table shows the first
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    top: u16,
    /// Token whose rank is told, by its id or its text; else the likeliest of the final distribution
    #[arg(long, value_name = "ID|TOKEN", allow_hyphen_values = true)]
    target: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Lens {
    pub fn run(self, context: &Context) -> Result<()> {
        let (model, ids) = self.subject.load(context)?;
        let target = self.target.as_deref().map(|target| token(&model, target)).transpose()?;
        let edits = self.changes.load(&model)?;
        let points: Vec<_> = edits.iter().map(|edit| edit.point).collect();
        let lens = LogitLens::new_blocking(&model, self.top.into(), &points)?;
        let bar = progress::counting("reading rows");
        let view = lens.read_blocking(&ids, &edits, target, &progress::task(&bar, &context.cancel));
        bar.finish_and_clear();
        let view = view?;
        match self.json {
            true => print_json(&view)?,
            false => print_table(&view, &model)?,
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct View<'a> {
    ids: &'a [u32],
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    point: String,
    positions: Vec<Cell<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Cell<'a> {
    Distribution { top: Vec<Guess<'a>>, entropy: f32, kl: f32, rank: Option<u32> },
    Cosine { cosine: f32 },
}

#[derive(Serialize)]
struct Guess<'a> {
    id: u32,
    token: Option<&'a str>,
    p: f32,
}

fn cell(reading: &Reading) -> Cell<'_> {
    match reading {
        Reading::Cosine(cosine) => Cell::Cosine { cosine: *cosine },
        Reading::Distribution(Distribution { top, entropy, kl, rank, .. }) => Cell::Distribution {
            top: top.iter().map(|guess| Guess { id: guess.id, token: guess.token.as_deref(), p: guess.p }).collect(),
            entropy: *entropy,
            kl: *kl,
            rank: *rank,
        },
    }
}

fn print_json(view: &LensView) -> io::Result<()> {
    let rows = view.rows.iter().map(|LensRow { point, positions }| Row {
        point: point.to_string(),
        positions: positions.iter().map(cell).collect(),
    });
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, &View { ids: &view.ids, rows: rows.collect() })?;
    writeln!(out)?;
    out.flush()
}

/// Of a cell's text.
const WIDTH: usize = 14;

/// A column for each token, as many as there is room for side by side; a row for each point.
fn print_table(view: &LensView, model: &Model) -> io::Result<()> {
    let terminal = io::stdout().is_terminal();
    let columns = if terminal { console::Term::stdout().size().1.into() } else { 100usize };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let names: Vec<_> = view.rows.iter().map(|row| short(&row.point.to_string())).collect();
    let margin = names.iter().map(String::len).max().unwrap_or(0);
    let each = (columns.saturating_sub(margin) / (WIDTH + 2)).max(1);
    let tokenizer = model.tokenizer().ok();
    let mut out = BufWriter::new(io::stdout().lock());
    for first in (0..view.ids.len()).step_by(each) {
        let shown = first..view.ids.len().min(first + each);
        if first > 0 {
            writeln!(out)?;
        }
        let mut line = " ".repeat(margin);
        for id in &view.ids[shown.clone()] {
            let text = tokenizer.and_then(|t| t.text_of(*id)).unwrap_or_else(|| id.to_string());
            line += &format!("  {}", padded(&text, WIDTH));
        }
        writeln!(out, "{}", line.trim_end())?;
        for (name, row) in names.iter().zip(&view.rows) {
            let mut line = format!("{name:margin$}");
            for reading in &row.positions[shown.clone()] {
                let (text, share) = content(reading);
                let style = console::Style::new().force_styling(colours);
                let style = match share {
                    ..0.1 => style.dim(),
                    0.5.. => style.bold(),
                    _ => style,
                };
                line += &format!("  {}", style.apply_to(text));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()
}

/// `blocks.3.hook_resid_pre` as `3 pre`.
fn short(point: &str) -> String {
    let parts: Vec<_> = point.split('.').collect();
    match parts[..] {
        [_, block, name] => format!("{block} {}", name.rsplit('_').next().unwrap_or(name)),
        _ => point.into(),
    }
}

/// A cell's text, and how sure it is.
fn content(reading: &Reading) -> (String, f32) {
    match reading {
        Reading::Cosine(cosine) => (padded(&format!("{cosine:.3}"), WIDTH), cosine.abs()),
        Reading::Distribution(Distribution { top, .. }) => match top.first() {
            None => (padded("no numbers", WIDTH), 0.0),
            Some(guess) => {
                let text = guess.token.as_deref().map_or_else(|| guess.id.to_string(), String::from);
                (format!("{} {:4.2}", padded(&text, WIDTH - 5), guess.p), guess.p)
            }
        },
    }
}

/// A token's text in so many columns; it may not steer the terminal.
fn padded(text: &str, width: usize) -> String {
    let text: String =
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    console::pad_str(&text, width, console::Alignment::Left, Some("…")).into_owned()
}
