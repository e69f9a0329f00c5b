//! `thalweg stream`: instruments on the residual stream, a file each, and what they have in common.

mod ablate;
mod attribute;
mod lens;
mod measure;
mod metric;
mod patch;
mod report;
mod steer;
mod tap;

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand};
use thalweg::{Model, RUSTBOOK};

use super::{Context, Ids, Usage, say};

/// Looks into the residual stream
#[derive(Args)]
pub struct Stream {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Lens(lens::Lens),
    Tap(tap::Tap),
    Attribute(attribute::Attribute),
    Measure(measure::Measure),
    Ablate(ablate::Ablate),
    Patch(patch::Patch),
    Steer(steer::Steer),
    Report(report::ReportCommand),
}

impl Stream {
    pub fn run(self, context: &Context) -> Result<()> {
        match self.command {
            Command::Lens(command) => command.run(context),
            Command::Tap(command) => command.run(context),
            Command::Attribute(command) => command.run(context),
            Command::Measure(command) => command.run(context),
            Command::Ablate(command) => command.run(context),
            Command::Patch(command) => command.run(context),
            Command::Steer(command) => command.run(context),
            Command::Report(command) => command.run(context),
        }
    }
}

/// The model and the text that an instrument is about.
#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["text", "ids"]))]
struct Subject {
    /// Folder of any model, GGUF file, or the name of one in the cache; else a small model of Rust's documentation
    #[arg(long, value_name = "M", default_value = RUSTBOOK, hide_default_value = true)]
    model: PathBuf,
    /// The text; special tokens are added but no prompt, and what is beyond the model's length is cut
    text: Option<String>,
    /// Token ids instead, taken as they are
    #[arg(long)]
    ids: Option<Ids>,
}

impl Subject {
    /// Loads the model, and makes the token ids of the text. That a text was cut is said.
    fn load(&self, context: &Context) -> Result<(Model, Vec<u32>)> {
        let model = context.model(&self.model)?;
        let ids = match (&self.ids, &self.text) {
            (Some(Ids(ids)), _) => ids.clone(),
            (None, text) => ids_of(&model, text.as_deref().unwrap_or_default())?,
        };
        Ok((model, ids))
    }
}

/// The token ids of a text. That it was cut is said.
fn ids_of(model: &Model, text: &str) -> Result<Vec<u32>> {
    let encoded = model.encode(text)?;
    if encoded.untruncated > encoded.ids.len() {
        let (all, kept) = (encoded.untruncated, encoded.ids.len());
        say("warning", &format!("the text has {all} tokens, and only the first {kept} count"));
    }
    Ok(encoded.ids)
}

/// A token by its id, or by its text as a tokenizer splits it.
fn token(model: &Model, text: &str) -> Result<u32> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let tokenizer = model.tokenizer()?;
    if let Some(id) = tokenizer.token_id(text) {
        return Ok(id);
    }
    match tokenizer.encode(text, usize::MAX, false)?.ids[..] {
        [id] => Ok(id),
        ref ids => Err(Usage(format!("{text:?} is {} tokens and not one: give its id", ids.len())).into()),
    }
}
