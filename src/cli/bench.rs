//! `thalweg bench`: how fast this machine's adapter is, and how near to its ceilings the engine comes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use thalweg::bench::{self, Comparison, Format, Options, Report, Skipped, Suite};
use thalweg::{Error, RUSTBOOK, find_model};

use super::{Context, cold, progress, say, writable};

const NOTES: &str = "The ceilings of the device are measured first; every result is a share of the one that bounds it. \
Nothing is printed as a number whose output was not verified beside a reference.

Exit codes: 0 ok, 1 a result is wrong, or slower than --compare's by more than --threshold, 2 usage, 3 no usable adapter, \
4 an old report that cannot be read.

Example:
  thalweg bench --out today.json --compare yesterday.json";

/// Measures how fast this machine's GPU is with the engine's kernels
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Bench {
    /// quick takes less than a minute on a software driver, full as long as it takes
    #[arg(long, value_name = "quick|full", default_value = "quick")]
    suite: SuiteName,
    /// Also writes the report to this file, as JSON
    #[arg(long, value_name = "F.json")]
    out: Option<PathBuf>,
    /// How the report is printed
    #[arg(long, value_name = "md|csv|json", default_value = "md")]
    format: FormatName,
    /// Compares with an earlier report
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// How much slower than the old report is an error, as a share
    #[arg(long, value_name = "R", default_value = "0.1", value_parser = threshold, requires = "compare")]
    threshold: f64,
    /// Draws the roofline with each kernel on it
    #[arg(long, value_name = "F.svg")]
    plot: Option<PathBuf>,
    /// Only results whose name or variant contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Also this model: a folder, a GGUF file, or a name in the cache
    #[arg(long, value_name = "M")]
    model: Option<PathBuf>,
    /// What a cold start is measured in
    #[arg(long, hide = true, value_name = "M")]
    cold_start: Option<PathBuf>,
    /// Seed of the random inputs
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum SuiteName {
    Quick,
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Md,
    Csv,
    Json,
}

fn threshold(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share from 0 to 1"))
}

impl Bench {
    pub fn run(self, context: &Context) -> Result<()> {
        if let Some(model) = &self.cold_start {
            return cold::child(context, model);
        }
        // what cannot be compared or written is told before anything is measured
        let old = self.compare.as_deref().map(Comparison::open).transpose()?;
        [&self.out, &self.plot].into_iter().flatten().try_for_each(|path| writable(path))?;
        let model = self.model.as_deref().map(find_model).transpose()?;
        let gpu = context.gpu()?;
        let options = Options {
            suite: match self.suite {
                SuiteName::Quick => Suite::Quick,
                SuiteName::Full => Suite::Full,
            },
            filter: self.filter.clone(),
            seed: self.seed,
            model: model.clone().map(|path| (path, context.load_options())),
            cancel: context.cancel.clone(),
        };
        let bar = progress::measuring();
        let report = bench::run(&gpu, &options, &|done, total, what| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_string());
        });
        let mut report = report?;
        for model in self.started(model) {
            bar.set_message(format!("cold start of {}", model.display()));
            match cold::starts(context, &model) {
                Ok(starts) => report.starts.extend(starts),
                Err(error) if context.cancel.is_cancelled() => return Err(error),
                Err(error) => {
                    let name = format!("cold start of {}", model.display());
                    report.skipped.push(Skipped { name, reason: format!("{error:#}") });
                }
            }
        }
        bar.finish_and_clear();
        self.print(&report, old.as_ref())?;
        if !report.wrong.is_empty() {
            bail!("{} of {} outputs are wrong", report.wrong.len(), report.wrong.len() + report.results.len());
        }
        let ratios = old.map_or(Vec::new(), |old| old.ratios(&report));
        let slower = ratios.iter().filter(|ratio| ratio.is_slower(self.threshold)).count();
        if slower > 0 {
            bail!("{slower} of {} results are more than {}% slower", ratios.len(), 100.0 * self.threshold);
        }
        Ok(())
    }

    /// The models whose cold start is measured.
    fn started(&self, model: Option<PathBuf>) -> Vec<PathBuf> {
        let small = PathBuf::from(RUSTBOOK);
        let all = find_model(&small).ok().into_iter().chain(model);
        all.filter(|path| self.filter.as_deref().is_none_or(|filter| path.display().to_string().contains(filter)))
            .collect()
    }

    fn print(&self, report: &Report, old: Option<&Comparison>) -> Result<()> {
        let files = [(&self.out, Format::Json), (&self.plot, Format::Svg)];
        for (path, format) in files.into_iter().filter_map(|(path, format)| Some((path.as_deref()?, format))) {
            write(report, format, path)?;
        }
        let format = match self.format {
            FormatName::Md => Format::Markdown,
            FormatName::Csv => Format::Csv,
            FormatName::Json => Format::Json,
        };
        let mut out = BufWriter::new(io::stdout().lock());
        report.write(format, &mut out)?;
        out.flush()?;
        let Some(old) = old else { return Ok(()) };
        if let Some(why) = old.other_machine(&report.adapter) {
            say("warning", &why);
        }
        // the ratios are part of the tables; programs that read CSV or JSON get them beside it
        if format == Format::Markdown {
            old.write(report, self.threshold, &mut out)?;
        } else {
            old.write(report, self.threshold, &mut io::stderr())?;
        }
        Ok(out.flush()?)
    }
}

fn write(report: &Report, format: Format, path: &Path) -> Result<()> {
    let error = |error| Error::io(path, error);
    let mut file = BufWriter::new(File::create(path).map_err(error)?);
    Ok(report.write(format, &mut file).and_then(|()| file.flush()).map_err(error)?)
}
