//! `thalweg stream attribute`: how much each part of the stream gives to a logit.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use thalweg::Model;
use thalweg::stream::{Attribution, Question};

use super::super::Context;
use super::{Subject, token};

const NOTES: &str = "Parts: embed, pos_embed, type_embed, L0H3 (head 3 of block 0, through its columns of W_O), 0_attn_bias, \
0_mlp_out, ln_final_bias, and logit_soft_cap where the model bends its logits; in post-norm blocks each part is carried \
through every norm, whose biases are 0_ln1_bias and 0_ln2_bias. The parts sum to the logit. An encoder's parts are taken \
along the token's own last stream, and sum to its length.

A norm with its statistics held is linear: of a part c it makes γ⊙(c − mean c)/σ, with σ of the whole row (RMS: without the \
mean), and β is a part of its own; the final norm's are multiplied with W_U[target] − W_U[against]. After Elhage and others, \"A \
Mathematical Framework for Transformer Circuits\" (2021).

Example:
  thalweg stream attribute \"The ownership of a value\" --json";

/// Takes a logit apart: what each head, FFN and embedding gives to it
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Attribute {
    #[command(flatten)]
    subject: Subject,
    /// Position of the token whose next is meant, from 0; the last (of encoders the first) where it is left out
    #[arg(long, value_name = "N")]
    position: Option<usize>,
    /// Token whose logit is taken apart, by its id or its text (" river"); the most likely where it is left out
    #[arg(long, value_name = "ID|TOKEN", allow_hyphen_values = true)]
    target: Option<String>,
    /// Another token, whose logit is taken off
    #[arg(long, value_name = "ID|TOKEN", allow_hyphen_values = true)]
    against: Option<String>,
    /// Prints all parts in their order as one JSON object
    #[arg(long)]
    json: bool,
}

/// Parts that a person is shown.
const SHOWN: usize = 24;

impl Attribute {
    pub fn run(self, context: &Context) -> Result<()> {
        let (model, ids) = self.subject.load(context)?;
        let id = |text: &Option<String>| text.as_deref().map(|text| token(&model, text)).transpose();
        let (position, target, against) = (self.position, id(&self.target)?, id(&self.against)?);
        let found = model.attribute_blocking(&ids, Question { position, target, against })?;
        let mut out = io::stdout().lock();
        if self.json {
            let parts: Vec<_> = found.parts.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            let Attribution { position, target, against, logit, .. } = found;
            let sum = found.sum();
            let line = json!({
                "position": position, "target": target, "against": against, "logit": logit, "parts": parts, "sum": sum,
            });
            return Ok(writeln!(out, "{line}")?);
        }
        Ok(write!(out, "{}", table(&model, &found))?)
    }
}

/// The largest parts with bars, and what all others give together.
fn table(model: &Model, found: &Attribution) -> String {
    let token = |id: u32| match model.tokenizer().ok().and_then(|tokenizer| tokenizer.decode(&[id], false).ok()) {
        Some(text) => format!("{text:?} ({id})"),
        None => format!("token {id}"),
    };
    let what = match (found.target, found.against) {
        (Some(target), Some(against)) => format!("the logit of {} less that of {}", token(target), token(against)),
        (Some(target), None) => format!("the logit of {}", token(target)),
        (None, _) => "the length of the token's last stream".into(),
    };
    let mut parts: Vec<_> = found.parts.iter().collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let (shown, rest) = parts.split_at(parts.len().min(SHOWN));
    let largest = shown.first().map_or(1.0, |part| part.1.abs()).max(f64::MIN_POSITIVE);
    let width = shown.iter().map(|part| part.0.len()).max().unwrap_or(0);
    let line = |name: &str, value: f64| {
        let bar = "█".repeat((20.0 * value.abs() / largest).round() as usize);
        format!("{name:width$} {value:>10.4} {bar}\n")
    };
    let mut text = format!("{what}, after position {}: {:.4}\n\n", found.position, found.logit);
    shown.iter().for_each(|part| text += &line(&part.0, part.1));
    if !rest.is_empty() {
        let value: f64 = rest.iter().map(|part| part.1).sum();
        text += &format!("{:width$} {value:>10.4}\n", format!("{} more", rest.len()));
    }
    text + &format!("{:width$} {:>10.4}\n", "sum", found.sum())
}
