//! `thalweg stream report`: what a model made of a prompt, as one page.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use thalweg::Error;

use super::super::{Context, count, progress, writable};
use super::Subject;

const NOTES: &str = "The page is one file that opens from disk and needs no network: the way of the stream as a river, the logit \
lens (of models without a head how near the stream is to its end), attention by head, what the blocks do, one token in one \
block, and the top logit taken apart. At most 256 tokens are shown; more are refused. Weights of attention are held in 8 bits, \
and no more than 16 Mi of them: where all heads have more, those of the first tokens. --json has them in base64. The same model \
and text give the same bytes on the same adapter.

Example:
  thalweg stream report \"A vector owns its elements.\" --out report.html";

/// Writes a page that shows what a model makes of a text
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct ReportCommand {
    #[command(flatten)]
    subject: Subject,
    /// Page to write
    #[arg(long, value_name = "F.html")]
    out: PathBuf,
    /// All numbers as JSON, in a file
    #[arg(long, value_name = "F.json")]
    json: Option<PathBuf>,
    /// Folder for every plot as an SVG file; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

impl ReportCommand {
    pub fn run(self, context: &Context) -> Result<()> {
        [Some(&self.out), self.json.as_ref()].into_iter().flatten().try_for_each(|path| writable(path))?;
        let (model, ids) = self.subject.load(context)?;
        let bar = progress::counting("reading rows");
        let report = model.report_blocking(&ids, &progress::task(&bar, &context.cancel));
        bar.finish_and_clear();
        let report = report?;
        let page = report.html();
        write(&self.out, &page)?;
        if let Some(path) = &self.json {
            write(path, &format!("{}\n", report.json()))?;
        }
        if let Some(folder) = &self.svg {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
            for figure in report.figures() {
                write(&folder.join(format!("{}.svg", figure.name)), &figure.standalone())?;
            }
        }
        let tokens = count(ids.len() as u64, "token");
        let _ = writeln!(io::stderr(), "wrote {tokens} ({} bytes) to {}", page.len(), self.out.display());
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(fs::write(path, text).map_err(|e| Error::io(path, e))?)
}
