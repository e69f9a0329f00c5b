//! `thalweg stream patch`: which places of a clean run bring a corrupted run back.

use std::io::{self, Write};

use anyhow::Result;
use clap::{ArgGroup, Args};
use serde_json::json;
use thalweg::Model;
use thalweg::stream::{Kind, Patching, Place, parse_points, patch_blocking};

use super::super::{Context, Ids, progress};
use super::metric::{Judge, name, title};
use super::{Subject, ids_of};

const NOTES: &str = "Each number is (m_patch − m_corr)/(m_clean − m_corr): 1 where the clean run's rows at that place bring all \
of the metric back, 0 where they bring nothing. Both prompts have the same number of tokens. Points without heads are \
patched token by token, those with heads (z, q, k, v, pattern) head by head in all tokens.

Judged by the logit of --target less that of --against; where nothing is said, by what the clean prompt takes for most \
likely less what the corrupted one does. With --loss by the loss of each run at the clean prompt's tokens. Encoders by the cosine with the clean prompt's vector, or with that of --to.

After Meng and others, \"Locating and Editing Factual Associations in GPT\" (2022); the formula is Wang and others', \
\"Interpretability in the Wild\" (2022).

--json prints one object: {\"metric\",\"clean_ids\",\"corrupted_ids\",\"clean\",\"corrupted\",\"places\":[{\"point\",\"block\",\
\"position\",\"head\",\"value\",\"share\"}]}; position or head is null.

Example:
  thalweg stream patch \"The vector is stored on the\" --corrupted \"The string is stored on the\"";

/// What of a clean run brings a corrupted run back, place by place
#[derive(Args)]
#[command(after_help = NOTES, group = ArgGroup::new("other").required(true).args(["corrupted", "corrupted_ids"]))]
pub struct Patch {
    #[command(flatten)]
    subject: Subject,
    /// The corrupted prompt, of as many tokens
    #[arg(long, value_name = "TEXT")]
    corrupted: Option<String>,
    /// Token ids instead
    #[arg(long, value_name = "IDS")]
    corrupted_ids: Option<Ids>,
    #[command(flatten)]
    judge: Judge,
    /// Where rows are patched, separated by commas
    #[arg(long, value_name = "P,…", default_value = "resid_pre,attn_out,mlp_out,z")]
    points: String,
    /// Prints one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Patch {
    pub fn run(self, context: &Context) -> Result<()> {
        let (model, clean) = self.subject.load(context)?;
        let corrupted = match (&self.corrupted_ids, &self.corrupted) {
            (Some(Ids(ids)), _) => ids.clone(),
            (None, text) => ids_of(&model, text.as_deref().unwrap_or_default())?,
        };
        let mut kinds: Vec<Kind> = Vec::new();
        let points = parse_points(&self.points, model.spec())?;
        points.iter().for_each(|point| {
            if !kinds.contains(&point.kind) {
                kinds.push(point.kind)
            }
        });
        let mut places = Place::all(&kinds, model.spec(), clean.len());
        places.retain(|place| points.contains(&place.point));
        let metric = self.judge.between(&model, &clean, &corrupted)?;
        let bar = progress::counting("running");
        let task = progress::task(&bar, &context.cancel);
        let found = patch_blocking(&model, &clean, &corrupted, &metric, &places, &task);
        bar.finish_and_clear();
        let found = found?;
        let title = title(&model, &metric);
        let mut out = io::stdout().lock();
        if self.json {
            let each = places.iter().zip(&found.values).zip(found.shares()).map(|((place, value), share)| {
                let Place { point, position, head } = place;
                json!({
                    "point": point.to_string(), "block": point.block, "position": position, "head": head, "value": value,
                    "share": share,
                })
            });
            let each: Vec<_> = each.collect();
            let line = json!({
                "metric": title, "clean_ids": clean, "corrupted_ids": corrupted, "clean": found.clean,
                "corrupted": found.corrupted, "places": each,
            });
            return Ok(writeln!(out, "{line}")?);
        }
        Ok(write!(out, "{}", tables(&model, &title, &clean, &corrupted, &places, &found))?)
    }
}

/// A table for each kind of point: a row for each block.
fn tables(model: &Model, title: &str, clean: &[u32], corrupted: &[u32], places: &[Place], found: &Patching) -> String {
    let mut text = format!("{title}: {:.4} clean, {:.4} corrupted\n", found.clean, found.corrupted);
    for (i, (a, b)) in clean.iter().zip(corrupted).enumerate().filter(|(_, (a, b))| a != b) {
        text += &format!("token {i} is {} and {}\n", name(model, *a), name(model, *b));
    }
    let shares = found.shares();
    let cells: Vec<_> = places.iter().zip(shares).collect();
    for kind in cells.chunk_by(|a, b| a.0.point.kind == b.0.point.kind) {
        let point = kind[0].0.point.to_string();
        let kind_name = point.rsplit("hook_").next().unwrap_or_default();
        let what = if kind[0].0.head.is_some() { "head" } else { "token" };
        text += &format!("\n{kind_name}, by block and {what}\nblock");
        for (i, block) in kind.chunk_by(|a, b| a.0.point.block == b.0.point.block).enumerate() {
            if i == 0 {
                let column = |place: &Place| place.head.or(place.position).unwrap_or(0);
                block.iter().for_each(|(place, _)| text += &format!(" {:>6}", column(place)));
                text.push('\n');
            }
            text += &format!("{:>5}", block[0].0.point.block);
            block.iter().for_each(|(_, share)| text += &format!(" {share:>6.2}"));
            text.push('\n');
        }
    }
    text
}
