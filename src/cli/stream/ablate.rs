//! `thalweg stream ablate`: what a metric loses without each component.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;
use thalweg::stream::{Component, Edit, Replacement, Sweep, ablations, load_edits, save_edits};
use thalweg::{Error, Model};

use super::super::lines::Lines;
use super::super::{Context, Usage, progress};
use super::metric::{Judge, title};
use super::{Subject, ids_of};

const NOTES: &str = "Components: heads (one at a time), attention, mlp, block (both), and the gates of the residual \
connection, attention_skip and mlp_skip: λ in x' = λ·x + F(x), which zero closes. A component is replaced at all tokens, in \
one block at a time. With --edits the runs are yours: each file is one, and all go through the model together.

Judged by the mean loss of the text in nats a token, a --target's logit, the difference of two, a probability; encoders by \
the cosine with the text's own vector, or with that of --to.

The change is m(replaced) − m(clean), by zero or λ, by the mean over texts (Wang and others, \"Interpretability in the Wild\", \
2022) or by another text's rows (Chan and others, \"Causal Scrubbing\", 2022); loss: −mean ln p(token | those before it).

--json prints one object: {\"metric\",\"tokens\",\"by\",\"clean\",\"components\":[{\"block\",\"component\",\"head\",\"value\",\
\"change\"}]}; head is null where it is none; of --edits {\"metric\",\"tokens\",\"clean\",\"edits\":[{\"file\",\"value\",\"change\"}]}.

Examples:
  thalweg stream ablate \"A trait is implemented for a type.\"
  thalweg stream ablate \"Ownership is a set of\" --components attention_skip,mlp_skip --scale 0.5 --target \" rules\"
  thalweg stream ablate \"Ownership is a set of\" --components heads --save-edits heads
  thalweg stream ablate \"Ownership is a set of\" --edits heads/block0.head3.json --edits mine.json";

/// What is lost without each head, attention, FFN or residual connection
#[derive(Args)]
#[command(after_help = NOTES, allow_negative_numbers = true)]
pub struct Ablate {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    judge: Judge,
    /// What is replaced, separated by commas
    #[arg(long, value_name = "C,…", default_value = "heads,attention,mlp,block,attention_skip,mlp_skip")]
    components: String,
    /// What takes its place
    #[arg(long, value_enum, default_value = "zero")]
    by: By,
    /// Itself times λ instead
    #[arg(long, value_name = "λ", conflicts_with = "by")]
    scale: Option<f32>,
    /// For mean: texts, one a line, instead of the text itself
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// For resample: the other text, of as many tokens or more
    #[arg(long, value_name = "TEXT")]
    other: Option<String>,
    /// Edits as JSON, which `thalweg generate --help` describes, instead of components; several times for several runs
    #[arg(long, value_name = "F.json", conflicts_with_all = ["components", "by", "scale", "reference", "other", "save_edits"])]
    edits: Vec<PathBuf>,
    /// Folder for each run's edits, block0.head3.json and so on, as --edits takes them; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    save_edits: Option<PathBuf>,
    /// Prints one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// Nothing
    Zero,
    /// Its mean over the text's tokens, or over those of --reference
    Mean,
    /// What it is in another text, token by token
    Resample,
}

impl Ablate {
    pub fn run(self, context: &Context) -> Result<()> {
        let what = |text: &str| Err(Usage(text.into()).into());
        match (self.by, &self.reference, &self.other) {
            (By::Resample, _, None) => return what("--by resample needs --other"),
            (By::Zero | By::Mean, _, Some(_)) => return what("--other is for --by resample"),
            (By::Zero | By::Resample, Some(_), _) => return what("--reference is for --by mean"),
            _ => {}
        }
        let (model, ids) = self.subject.load(context)?;
        let metric = self.judge.of(&model, &ids)?;
        let title = title(&model, &metric);
        if !self.edits.is_empty() {
            let sets = self.edits.iter().map(|path| load_edits(path, model.spec()));
            let sets: Vec<_> = sets.collect::<thalweg::Result<_>>()?;
            let sweep = Sweep::new_blocking(&model, &ids, metric)?;
            let values = judged(&sweep, &sets, context)?;
            return self.print_files(&title, &sweep, &values);
        }
        let components = Component::parse(&self.components, model.spec())?;
        let (label, replacement) = match (self.scale, self.by, &self.other) {
            (Some(scale), ..) => (format!("×{scale}"), Replacement::Scale(scale)),
            (None, By::Resample, Some(text)) => ("resample".into(), Replacement::Resample(ids_of(&model, text)?)),
            (None, By::Mean, _) => {
                let texts = match &self.reference {
                    None => vec![ids.clone()],
                    Some(path) => prompts(&model, path)?,
                };
                ("mean".into(), Replacement::Mean(texts))
            }
            (None, ..) => ("zero".into(), Replacement::Scale(0.0)),
        };
        let sweep = Sweep::new_blocking(&model, &ids, metric)?;
        let sets = pollster::block_on(ablations(&model, ids.len(), &components, &replacement))?;
        if let Some(folder) = &self.save_edits {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
            for ((block, component), edits) in components.iter().zip(&sets) {
                let name = format!("block{block}.{}.json", component.to_string().replace(' ', ""));
                save_edits(&folder.join(name), edits)?;
            }
        }
        let values = judged(&sweep, &sets, context)?;
        let mut out = io::stdout().lock();
        if self.json {
            let each = components.iter().zip(&values).map(|((block, component), value)| {
                let (name, head) = match component {
                    Component::Head(head) => ("head".into(), Some(head)),
                    other => (other.to_string(), None),
                };
                let change = value - sweep.clean();
                json!({"block": block, "component": name, "head": head, "value": value, "change": change})
            });
            let each: Vec<_> = each.collect();
            let line = json!({
                "metric": title, "tokens": ids.len(), "by": label, "clean": sweep.clean(), "components": each,
            });
            return Ok(writeln!(out, "{line}")?);
        }
        writeln!(
            out,
            "{title}: {:.4} of {} tokens; its change with each component's place taken by {label}\n",
            sweep.clean(),
            ids.len()
        )?;
        let blocks = components.chunk_by(|a, b| a.0 == b.0);
        let mut values = values.iter();
        for (i, block) in blocks.enumerate() {
            if i == 0 {
                write!(out, "block")?;
                block.iter().try_for_each(|(_, component)| write!(out, " {:>9}", short(component)))?;
                writeln!(out)?;
            }
            write!(out, "{:>5}", block[0].0)?;
            values.by_ref().take(block.len()).try_for_each(|value| write!(out, " {:>+9.4}", value - sweep.clean()))?;
            writeln!(out)?;
        }
        Ok(())
    }

    /// A row for each file of edits.
    fn print_files(&self, title: &str, sweep: &Sweep<'_>, values: &[f64]) -> Result<()> {
        let (clean, tokens) = (sweep.clean(), sweep.ids().len());
        let rows = self.edits.iter().zip(values).map(|(file, value)| (file, value, value - clean));
        let mut out = io::stdout().lock();
        if self.json {
            let each = rows.map(|(file, value, change)| json!({"file": file, "value": value, "change": change}));
            let each: Vec<_> = each.collect();
            let line = json!({"metric": title, "tokens": tokens, "clean": clean, "edits": each});
            return Ok(writeln!(out, "{line}")?);
        }
        writeln!(out, "{title}: {clean:.4} of {tokens} tokens; its change with the edits of each file\n")?;
        for (file, _, change) in rows {
            writeln!(out, "{change:>+9.4}  {}", file.display())?;
        }
        Ok(())
    }
}

/// The metric of each set of edits, with a progress bar.
fn judged(sweep: &Sweep<'_>, sets: &[Vec<Edit>], context: &Context) -> Result<Vec<f64>> {
    let bar = progress::counting("running");
    let values = sweep.run_blocking(sets, &progress::task(&bar, &context.cancel));
    bar.finish_and_clear();
    Ok(values?)
}

/// A column's head.
fn short(component: &Component) -> String {
    match component {
        Component::AttentionSkip => "attn skip".into(),
        Component::MlpSkip => "mlp skip".into(),
        other => other.to_string(),
    }
}

/// The texts of a file, one a line; empty lines are left out.
pub fn prompts(model: &Model, path: &Path) -> Result<Vec<Vec<u32>>> {
    let mut prompts = Vec::new();
    for line in Lines::open(path, false)? {
        let line = line?;
        if !line.text.trim().is_empty() {
            prompts.push(ids_of(model, &line.text)?);
        }
    }
    Ok(prompts)
}
