//! `thalweg check`: proves on this machine's adapters that the engine's numbers are right.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};
use clap::Args;
use thalweg::check::{Expectation, Format, Machine, Report, Run, choose, inventory, quoted, vector_checks};
use thalweg::gpu::adapters;
use thalweg::{AdapterChoice, Error, Gpu, GpuOptions};

use super::{Context, Usage, progress, writable};

const NOTES: &str = "Every check has a name, such as `layer_norm[subgroup] 7 rows of 384 around 0.5`. The same seed \
and name give the same inputs, whatever else is run; without --seed every run has another. --adapter all checks every \
adapter of every backend that is there.

Exit codes: 0 all is right, 1 something is wrong (an expected failure that passes is), 2 usage, 3 no usable adapter.

Example:
  thalweg check --adapter all --report check.xml";

/// Checks the kernels, and models made of them, on this machine's GPUs
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Check {
    /// Only checks whose name contains this; a whole name is that check alone
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Runs the test vectors of this folder (*.safetensors, an ONNX operator each) and nothing else
    #[arg(long, value_name = "DIR", conflicts_with = "full")]
    vectors: Option<PathBuf>,
    /// Prints the names of the checks and runs none
    #[arg(long)]
    list: bool,
    /// Seed of the random inputs; test vectors have none
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Also the checks that take long
    #[arg(long)]
    full: bool,
    /// Also writes a report to this file; may be given more than once
    #[arg(long, value_name = "F.xml|F.json|F.tap")]
    report: Vec<PathBuf>,
    /// An adapter that is found and cannot be used is exit code 3, not a skip
    #[arg(long)]
    require_adapter: bool,
    /// What else is expected to fail: a JSON array of {"adapter","backend","driver","check","reason","link"}
    #[arg(long, value_name = "F.json")]
    expect: Vec<PathBuf>,
}

impl Check {
    pub fn run(self, context: &Context) -> Result<()> {
        let all = self.vectors.as_deref().map_or_else(|| Ok(inventory()), vector_checks)?;
        let checks = choose(all, self.full, self.filter.as_deref());
        if let (true, Some(filter)) = (checks.is_empty(), &self.filter) {
            return Err(Usage(format!("no check's name contains {filter:?}; --list prints all")).into());
        }
        if self.list {
            let mut out = BufWriter::new(io::stdout().lock());
            for check in &checks {
                writeln!(out, "{}", check.name)?;
            }
            return Ok(out.flush()?);
        }
        let formats: Vec<Format> = self.report.iter().map(|path| format(path)).collect::<Result<_>>()?;
        self.report.iter().try_for_each(|path| writable(path))?;
        let expected = self.expectations()?;
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let machines = machines(context)?;
        let mut report = Report::new(Vec::new());
        let bar = progress::checking((checks.len() * machines.len()) as u64);
        for (mut machine, options) in machines {
            let run = Run {
                machine: &machine,
                seed,
                expected: &expected,
                arguments: &self.arguments(context, &machine),
                cancel: &context.cancel,
            };
            let outcome = run.all(&|| Gpu::new_blocking(options.clone()), &checks, &|_| bar.inc(1));
            match outcome {
                Ok(records) => report.cases.extend(records),
                Err(error @ Error::Cancelled) => return Err(error.into()),
                Err(error) => {
                    machine.usable = false;
                    machine.problem = Some(error.to_string());
                }
            }
            report.adapters.push(machine);
        }
        bar.finish_and_clear();
        self.print(&report, &formats)?;
        if report.failures() > 0 {
            bail!("{} of {} checks failed", report.failures(), report.cases.len());
        }
        let unusable = report.adapters.iter().find(|machine| !machine.usable);
        if let Some(machine) = unusable.filter(|_| self.require_adapter || report.cases.is_empty()) {
            let problem = machine.problem.clone().unwrap_or_default();
            return Err(Error::NoAdapter(format!("{}: {problem}", machine.id)).into());
        }
        Ok(())
    }

    fn expectations(&self) -> Result<Vec<Expectation>> {
        let mut expected = Expectation::own();
        for path in &self.expect {
            let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
            expected.extend(Expectation::read(&text).map_err(|what| Error::file(path, what))?);
        }
        Ok(expected)
    }

    /// The arguments that choose the same vectors on the same adapter again, with a space behind each.
    fn arguments(&self, context: &Context, machine: &Machine) -> String {
        let mut arguments = String::new();
        if let Some(dir) = &self.vectors {
            arguments += &format!("--vectors {} ", quoted(&dir.display().to_string()));
        }
        match (machine.index, &context.machine.adapter) {
            (Some(index), _) => arguments += &format!("--adapter {index} "),
            (None, Some(AdapterChoice::Index(index))) => arguments += &format!("--adapter {index} "),
            (None, Some(AdapterChoice::Name(name))) => arguments += &format!("--adapter {} ", quoted(name)),
            (None, Some(AdapterChoice::Best) | None) => {}
        }
        if let Some(name) = context.machine.backend.and_then(super::backend_name) {
            arguments += &format!("--backend {name} ");
        }
        arguments
    }

    fn print(&self, report: &Report, formats: &[Format]) -> Result<()> {
        for (path, format) in self.report.iter().zip(formats) {
            let error = |error| Error::io(path, error);
            let mut file = BufWriter::new(File::create(path).map_err(error)?);
            report.write(*format, &mut file).and_then(|()| file.flush()).map_err(error)?;
        }
        let mut out = BufWriter::new(io::stdout().lock());
        report.write(Format::Table, &mut out)?;
        Ok(out.flush()?)
    }
}

fn format(path: &Path) -> Result<Format> {
    let name = path.display().to_string();
    Format::of_file(&name).ok_or_else(|| Usage(format!("--report {name} ends in none of .xml, .json, .tap")).into())
}

/// Short enough to be typed again.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |time| u64::from(time.subsec_nanos()) ^ (time.as_secs() & 0xffff_ffff))
}

/// The adapters to check, and how each is opened.
fn machines(context: &Context) -> Result<Vec<(Machine, GpuOptions)>> {
    let backends = context.machine.backend;
    let all = matches!(&context.machine.adapter, Some(AdapterChoice::Name(name)) if name == "all");
    if !all {
        let adapter = context.machine.adapter.clone().unwrap_or_default();
        let options = GpuOptions { adapter, backends, ..Default::default() };
        // opened here for its name; a driver that cannot be opened twice is not one to rely on
        let gpu = Gpu::new_blocking(options.clone())?;
        return Ok(vec![(Machine::new(None, gpu.info()), options)]);
    }
    let found = pollster::block_on(adapters(backends));
    if found.is_empty() {
        // the reason, in the words of the other subcommands
        Gpu::new_blocking(GpuOptions { backends, ..Default::default() })?;
    }
    let machine = |(index, adapter): (usize, wgpu::Adapter)| {
        let options = GpuOptions { adapter: AdapterChoice::Index(index), backends, ..Default::default() };
        (Machine::new(Some(index), &adapter.get_info()), options)
    };
    Ok(found.into_iter().enumerate().map(machine).collect())
}
