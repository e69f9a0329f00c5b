//! Runs a suite on one adapter: the ceilings first, then each measurement, verified before it is timed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::ceilings::{self, Bound, Ceilings};
use super::kernels::{Job, Unit, jobs};
use super::models;
use super::report::{Adapter, Measured, Report, Skipped, Wrong};
use super::rotation::{Rotation, bound, is_output};
use super::shapes::SHAPES;
use super::statistics::Statistics;
use super::subject::{Subject, enough};
use super::timing::{Timer, Times};
use crate::check::{Case, Random, outputs, written};
use crate::embedded::RUSTBOOK;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::WeightType;
use crate::model::{LoadOptions, Spec};
use crate::schedule::{Dispatch, Slot};
use crate::task::CancelToken;

/// How much is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suite {
    /// What models of this machine's class run, in less than a minute.
    #[default]
    Quick,
    /// Every kernel and model, in every type and variant, as long as it takes.
    Full,
}

impl Suite {
    /// `quick` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Quick => "quick",
            Suite::Full => "full",
        }
    }
}

/// What is measured, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How much.
    pub suite: Suite,
    /// Only results whose name or variant contains this.
    pub filter: Option<String>,
    /// Of the random inputs.
    pub seed: u64,
    /// A model that is measured as well, and how it is loaded.
    pub model: Option<(PathBuf, LoadOptions)>,
    /// Ends the run between two samples.
    pub cancel: CancelToken,
}

/// Measures; `progress` is told how much is done, of how much, and what comes next.
///
/// # Errors
/// [`Error::DeviceLost`], [`Error::Cancelled`]. What is wrong with a result is no error, but in the report.
pub fn run(gpu: &Gpu, options: &Options, progress: &dyn Fn(usize, usize, &str)) -> Result<Report> {
    pollster::block_on(measured(gpu, options, progress))
}

async fn measured(gpu: &Gpu, options: &Options, progress: &dyn Fn(usize, usize, &str)) -> Result<Report> {
    let full = options.suite == Suite::Full;
    let fits = |text: &str| options.filter.as_deref().is_none_or(|filter| text.contains(filter));
    let mut jobs = jobs(gpu.capabilities(), full);
    jobs.retain(|job| fits(job.plan.label()) || fits(job.plan.kernel));
    let wanted = subjects(options, full);
    let total = jobs.len() + wanted.len() + 1;
    let mut timer = Timer {
        gpu,
        cancel: &options.cancel,
        samples: if full { 7 } else { 5 },
        target: if full { Duration::from_millis(100) } else { Duration::from_millis(40) },
        clock: gpu.capabilities().timestamps,
    };
    let ceilings = ceilings::measure(&mut timer, &|what| progress(0, total, what)).await?;
    let mut report = Report {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        suite: options.suite.name().into(),
        seed: options.seed,
        adapter: adapter(gpu),
        ceilings,
        results: Vec::new(),
        wrong: Vec::new(),
        skipped: Vec::new(),
        starts: Vec::new(),
    };
    for (i, job) in jobs.iter().enumerate() {
        progress(i + 1, total, job.plan.label());
        let start = Instant::now();
        match kernel(&timer, &report.ceilings, job, options.seed).await? {
            Outcome::Measured(measured) => report.results.push(*measured),
            Outcome::Wrong(what) => report.wrong.push(Wrong {
                name: job.plan.kernel.into(),
                shape: job.shape.clone(),
                variant: job.plan.label().into(),
                dtype: job.dtype.into(),
                what,
            }),
            Outcome::Skipped(reason) => {
                let name = format!("{} {:?}", job.plan.label(), job.shape);
                report.skipped.push(Skipped { name, reason });
            }
        }
        log::debug!("{} {:?}: {:.2} s", job.plan.label(), job.shape, start.elapsed().as_secs_f64());
    }
    for (i, wanted) in wanted.into_iter().enumerate() {
        let name = wanted.name();
        progress(jobs.len() + 1 + i, total, &name);
        let subject = match wanted {
            Wanted::Random(name, spec, weight_type) => Subject::random(gpu, name, spec(), weight_type, options.seed),
            Wanted::File(path, load) => Subject::load(gpu, &path, load).await,
        };
        let sizes = if full { &models::FULL } else { &models::QUICK };
        match subject {
            Ok(subject) => {
                let outcome = models::measure(&timer, &report.ceilings, &subject, sizes, options.seed).await?;
                report.results.extend(outcome.measured);
                report.wrong.extend(outcome.wrong);
                report.skipped.extend(outcome.skipped);
            }
            Err(Error::OutOfMemory(reason)) => report.skipped.push(Skipped { name, reason }),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// A model to be measured.
enum Wanted {
    Random(&'static str, fn() -> Spec, WeightType),
    File(PathBuf, LoadOptions),
}

impl Wanted {
    fn name(&self) -> String {
        match self {
            Wanted::Random(name, _, weight_type) => format!("{name}, {}", weight_type.name()),
            Wanted::File(path, _) => path.display().to_string(),
        }
    }
}

/// The suite's models, and the one that was named.
fn subjects(options: &Options, full: bool) -> Vec<Wanted> {
    let mut all = Vec::new();
    for shape in &SHAPES {
        let types: &[_] = match (full, shape.name) {
            (true, "Llama-1B" | "Llama-8B") => &[WeightType::F16, WeightType::Q8_0, WeightType::Q4K],
            (true, _) => &[WeightType::F32, WeightType::F16],
            (false, "MiniLM") => &[WeightType::F32],
            (false, _) => &[],
        };
        all.extend(types.iter().map(|&weight_type| Wanted::Random(shape.name, shape.spec, weight_type)));
    }
    let small = PathBuf::from(RUSTBOOK);
    if !full && crate::embedded::is_embedded(&small) {
        all.push(Wanted::File(small, LoadOptions::default()));
    }
    all.extend(options.model.iter().map(|(path, load)| Wanted::File(path.clone(), load.clone())));
    all.retain(|wanted| options.filter.as_deref().is_none_or(|filter| wanted.name().contains(filter)));
    all
}

fn adapter(gpu: &Gpu) -> Adapter {
    let info = gpu.info();
    Adapter {
        name: info.name.clone(),
        backend: info.backend.to_str().into(),
        driver: info.driver.clone(),
        driver_info: info.driver_info.clone(),
        class: format!("{:?}", gpu.capabilities().class),
        host_cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// What became of a measurement.
#[derive(Debug)]
pub(super) enum Outcome {
    Measured(Box<Measured>),
    Wrong(String),
    Skipped(String),
}

impl Outcome {
    /// Of an error that need not end the run.
    pub fn of(error: Error) -> Result<Self> {
        match error {
            Error::OutOfMemory(what) => Ok(Outcome::Skipped(what)),
            Error::Kernel { .. } | Error::Internal { .. } => Ok(Outcome::Wrong(error.to_string())),
            error => Err(error),
        }
    }
}

/// Verifies a kernel's output, then times it.
pub(super) async fn kernel(timer: &Timer<'_>, ceilings: &Ceilings, job: &Job, seed: u64) -> Result<Outcome> {
    match verified(timer, ceilings, job, seed).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => Outcome::of(error),
    }
}

async fn verified(timer: &Timer<'_>, ceilings: &Ceilings, job: &Job, seed: u64) -> Result<Outcome> {
    let gpu = timer.gpu;
    fits(gpu, job)?;
    let case = job.plan.make(&mut Random::of(seed, &format!("{} {}", job.plan.label(), job.plan.shape)));
    let mut found = outputs(gpu, &case, 1).await?;
    let error = match case.judge(&found) {
        Ok(error) => error,
        Err(fault) => return Ok(Outcome::Wrong(fault.what)),
    };
    // without what a case runs beside it, to compare with or to finish what this one began
    let label = job.plan.label();
    let (own, beside): (Vec<Dispatch>, Vec<Dispatch>) =
        case.dispatches.iter().cloned().partition(|d| d.variant.label == label);
    let others = |slot: Slot| beside.iter().any(|d| written(d).any(|w| w == slot));
    found.retain(|slot, _| !others(*slot));
    if !own.iter().flat_map(written).any(|slot| found.contains_key(&slot)) {
        return Ok(Outcome::Wrong("nothing that it writes is left as it was written".into()));
    }
    let rotation = Rotation::new(gpu, &case, &own).await?;
    if let Some(what) = rotation.differs(gpu, &found).await? {
        return Ok(Outcome::Wrong(what));
    }
    let times = timer.time(&mut rotation.encoder()).await?;
    let dims = case.batch.dims();
    let flops: f64 = own.iter().map(|d| d.work.flops * f64::from(dims.get(d.work.dim))).sum();
    let bytes = traffic(job, &case, &own, &others);
    let of = |seconds: f64| match job.unit {
        Unit::Gflops => flops / seconds / 1e9,
        Unit::Gbytes => bytes / seconds / 1e9,
    };
    let fastest = ceilings.fastest(flops, bytes, job.plan.needs().matrix > 0);
    let measured = measured_of(&times, fastest, flops, bytes, of).map(|measured| Measured {
        name: job.plan.kernel.into(),
        shape: job.shape.clone(),
        variant: label.into(),
        dtype: job.dtype.into(),
        unit: job.unit.name().into(),
        error: Some(error),
        models: job.models.iter().map(|model| model.to_string()).collect(),
        ..measured
    });
    Ok(match measured {
        Some(measured) => Outcome::Measured(Box::new(measured)),
        None => Outcome::Skipped("the clock stood still".into()),
    })
}

/// The numbers of a measurement, from its times; the GPU's clock goes before the wall clock.
pub(super) fn measured_of(
    times: &Times,
    fastest: Option<(f64, Bound)>,
    flops: f64,
    bytes: f64,
    of: impl Fn(f64) -> f64,
) -> Option<Measured> {
    let rates = |seconds: &[f64]| -> Vec<f64> { seconds.iter().map(|&seconds| of(seconds)).collect() };
    let wall = Statistics::of(&rates(&times.wall))?.median;
    let gpu = times.gpu.as_deref().filter(|seconds| Statistics::of(seconds).is_some());
    let seconds = gpu.unwrap_or(&times.wall);
    let samples = rates(seconds);
    let Statistics { median, spread } = Statistics::of(&samples)?;
    let taken = Statistics::of(seconds)?.median;
    Some(Measured {
        name: String::new(),
        shape: Vec::new(),
        variant: String::new(),
        dtype: String::new(),
        unit: String::new(),
        value: median,
        samples,
        median,
        spread,
        of_ceiling: fastest.map(|(least, _)| least / taken),
        checked: true,
        error: None,
        bound: fastest.map(|(_, bound)| bound),
        wall,
        gpu: gpu.map(|_| median),
        flops,
        bytes,
        models: Vec::new(),
    })
}

/// Whether there is memory for a product: its weight as stored, in the case, in the rig and in two copies, and its values.
fn fits(gpu: &Gpu, job: &Job) -> Result<()> {
    let ("matmul" | "matvec", &[_, n, k]) = (job.plan.kernel, &job.shape[..]) else { return Ok(()) };
    let weight_type = WeightType::ALL.into_iter().find(|t| t.name() == job.dtype).unwrap_or(WeightType::F32);
    let stored = (n * weight_type.row_bytes(k)) as u64;
    enough(gpu, 3 * stored + 12 * (n * k) as u64, 3 * stored)
}

/// Bytes that have to be moved: what is read, once, and what is written, once; `others` is what is written by others.
fn traffic(job: &Job, case: &Case, dispatches: &[Dispatch], others: &dyn Fn(Slot) -> bool) -> f64 {
    let mut bytes = 0;
    for slot in bound(dispatches) {
        let all = case.contents_of(slot).len();
        let read_and_written =
            dispatches.iter().any(|d| written(d).any(|w| w == slot)) && !is_output(case, dispatches, slot);
        bytes += match (job.plan.kernel, slot) {
            // of the word table, the tokens' rows
            ("embed", Slot::Weight(0)) => {
                let named = WeightType::ALL.into_iter().find(|t| t.name() == job.dtype);
                job.shape[0] * named.unwrap_or(WeightType::F32).row_bytes(job.shape[2])
            }
            // of the cache, what the tokens store
            ("kv_store", Slot::Cache(_)) => 8 * job.shape[0] * job.shape[2] * job.shape[3],
            _ if others(slot) => 0,
            _ if read_and_written => 2 * all,
            _ => all,
        };
    }
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GpuOptions;
    use crate::kernels::Variant;

    /// As a driver would that drops β: what is compiled under the label is another kernel.
    #[test]
    fn a_wrong_kernel_is_never_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let options = GpuOptions { cache_dir: Some(folder.path().into()), ..Default::default() };
        let gpu = Gpu::new_blocking(options).unwrap();
        let jobs = jobs(gpu.capabilities(), false);
        let norm = jobs.iter().find(|job| job.plan.kernel == "layer_norm").unwrap();
        let right = &norm.plan.make(&mut Random::new(1)).dispatches[0].variant;
        let mut constants = right.constants.clone();
        constants.iter_mut().filter(|(name, _)| *name == "HAS_BETA").for_each(|(_, value)| *value = 0);
        assert_ne!(constants, right.constants);
        gpu.pipeline(&Variant { constants, ..right.clone() }).unwrap();
        let cancel = CancelToken::new();
        let (samples, target) = (5, Duration::from_millis(1));
        let timer = Timer { gpu: &gpu, cancel: &cancel, samples, target, clock: false };
        let outcome = pollster::block_on(kernel(&timer, &Ceilings::default(), norm, 3)).unwrap();
        let Outcome::Wrong(what) = outcome else { panic!("{outcome:?}") };
        assert!(what.contains("relative error"), "{what}");
        // and another kernel beside it is measured all the same
        let gate = jobs.iter().find(|job| job.plan.kernel == "gate").unwrap();
        let outcome = pollster::block_on(kernel(&timer, &Ceilings::default(), gate, 3)).unwrap();
        let Outcome::Measured(measured) = outcome else { panic!("{outcome:?}") };
        assert_eq!((measured.samples.len(), measured.of_ceiling, measured.gpu), (5, None, None));
        cancel.cancel();
        let cancelled = pollster::block_on(kernel(&timer, &Ceilings::default(), gate, 3));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}
