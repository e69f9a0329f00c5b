//! Runs checks on one adapter and says what became of each.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::expected::Expectation;
use super::inventory::{Check, Right, Wrong};
use crate::error::{Error, Result};
use crate::gpu::{AdapterClass, Gpu};
use crate::task::CancelToken;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is right.
    Pass,
    /// It is wrong.
    Fail,
    /// It was not run, for a reason.
    Skip,
    /// It is wrong, and was expected to be.
    Xfail,
    /// It is right, and was expected to be wrong: a failure, since the expectation is.
    Xpass,
}

impl Status {
    /// Whether the run is not green with it.
    pub fn fails(self) -> bool {
        matches!(self, Status::Fail | Status::Xpass)
    }
}

/// What became of one check on one adapter; a line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The check's name.
    pub name: String,
    /// [`Machine::id`] of the adapter.
    pub adapter: String,
    /// The kernel, or the piece.
    pub kernel: String,
    /// The variant's label.
    pub variant: String,
    /// What became of it.
    pub status: Status,
    /// One sentence, for all but a plain pass.
    pub reason: Option<String>,
    /// ‖out − ref‖/‖ref‖, where there is one.
    pub error: Option<f64>,
    /// What is allowed.
    pub tolerance: f64,
    /// Of the run.
    pub seed: u64,
    /// Milliseconds, the reference included.
    pub ms: f64,
    /// The command that does it again, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<String>,
}

/// An adapter as reports name it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Name and backend, and the number among equal ones.
    pub id: String,
    /// Place in the list of adapters, where it is known.
    pub index: Option<usize>,
    /// As the driver says.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// Name of the driver.
    pub driver: String,
    /// Its version.
    pub driver_info: String,
    /// Whether it could be opened.
    pub usable: bool,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Machine {
    /// From what an adapter says of itself.
    pub fn new(index: Option<usize>, info: &wgpu::AdapterInfo) -> Self {
        let (name, backend) = (info.name.clone(), info.backend.to_str().to_string());
        let number = index.map_or(String::new(), |i| format!("{i}: "));
        Machine {
            id: format!("{number}{name} ({backend})"),
            index,
            name,
            backend,
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            usable: true,
            problem: None,
        }
    }
}

/// How checks are run.
pub struct Run<'a> {
    /// The adapter.
    pub machine: &'a Machine,
    /// Of the inputs.
    pub seed: u64,
    /// What is known to fail.
    pub expected: &'a [Expectation],
    /// Arguments of the command line that choose the same adapter again.
    pub arguments: &'a str,
    /// Ends the run between two checks.
    pub cancel: &'a CancelToken,
}

/// Checks side by side: the references are computed on the CPU while the GPU works.
const MOST_THREADS: usize = 4;

impl Run<'_> {
    /// Runs the checks and returns a record of each, in order; `done` is told of each as it ends. A check that loses the
    /// device fails, and the others go on with a new one from `open`.
    ///
    /// # Errors
    /// What `open` says of the first device, and [`Error::Cancelled`]. Whatever happens to a check is in its record.
    pub fn all(
        &self,
        open: &dyn Fn() -> Result<Gpu>,
        checks: &[Check],
        done: &(dyn Fn(&Record) + Sync),
    ) -> Result<Vec<Record>> {
        let gpu = open()?;
        let records: Vec<Mutex<Option<Record>>> = checks.iter().map(|_| Mutex::default()).collect();
        let groups = groups(checks);
        let next = AtomicUsize::new(0);
        let worker = |gpu: &Gpu| {
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                for &i in group {
                    if self.cancel.is_cancelled() || gpu.alive().is_err() {
                        return;
                    }
                    // of several that run when the device is lost, it is not known which one lost it
                    if let Ok(record) = self.one(gpu, &checks[i]) {
                        done(&record);
                        *records[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        // some drivers that run on the CPU compile in the one thread of a device's queue
        let several = gpu.capabilities().class == AdapterClass::Cpu;
        let others = (1..threads).map(|_| if several { open() } else { Ok(gpu.clone()) });
        let others = others.collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            for gpu in others.iter().chain([&gpu]) {
                scope.spawn(|| worker(gpu));
            }
        });
        let mut gpu = Ok(gpu);
        let mut all = Vec::with_capacity(checks.len());
        for (check, record) in checks.iter().zip(records) {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let record = match record.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(record) => record,
                None => {
                    let record = self.alone(&mut gpu, open, check);
                    done(&record);
                    record
                }
            };
            all.push(record);
        }
        Ok(all)
    }

    /// A check with nothing beside it, on a device that is known to work.
    fn alone(&self, gpu: &mut Result<Gpu>, open: &dyn Fn() -> Result<Gpu>, check: &Check) -> Record {
        if gpu.as_ref().is_ok_and(|gpu| gpu.alive().is_err()) {
            *gpu = open();
        }
        let outcome = match gpu {
            Ok(gpu) => self.one(gpu, check),
            Err(error) => Err(error.to_string()),
        };
        outcome.unwrap_or_else(|lost| self.record(check, Duration::ZERO, Err((None, lost))))
    }

    /// The record of a check; or why the device was lost meanwhile.
    fn one(&self, gpu: &Gpu, check: &Check) -> Result<Record, String> {
        let lacks = gpu.capabilities().lacks(check.needs);
        if !lacks.is_empty() {
            let reason = format!("the adapter has no {}", lacks.join(", "));
            return Ok(self.skipped(check, Duration::ZERO, reason));
        }
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| check.work(gpu, self.seed)));
        let outcome = match outcome {
            Ok(Ok(right)) => Ok(right),
            Ok(Err(Wrong::Skipped(reason))) => return Ok(self.skipped(check, start.elapsed(), reason)),
            Ok(Err(Wrong::Numbers(fault))) => Err((Some(fault.error), fault.what)),
            Ok(Err(Wrong::Failed(error))) => match (error, settled(gpu)) {
                (lost @ Error::DeviceLost(_), _) | (_, Err(lost)) => return Err(lost.to_string()),
                (error, Ok(())) => Err((None, error.to_string())),
            },
            Err(panic) => Err((None, format!("a panic: {}", message(panic.as_ref())))),
        };
        Ok(self.record(check, start.elapsed(), outcome))
    }

    fn skipped(&self, check: &Check, time: Duration, reason: String) -> Record {
        let record = self.record(check, time, Ok(Right::default()));
        Record { status: Status::Skip, reason: Some(reason), repeat: None, ..record }
    }

    fn record(&self, check: &Check, time: Duration, outcome: Result<Right, (Option<f64>, String)>) -> Record {
        let known = self.expected.iter().find(|e| e.fits(self.machine, &check.name));
        let variant = outcome.as_ref().ok().and_then(|right| right.variant.clone());
        let (status, error, reason) = match (outcome, known) {
            (Ok(right), None) => (Status::Pass, right.error, right.note),
            (Ok(right), Some(known)) => (Status::Xpass, right.error, Some(format!("expected to fail: {known}"))),
            (Err((error, what)), None) => (Status::Fail, error, Some(what)),
            (Err((error, what)), Some(known)) => (Status::Xfail, error, Some(format!("{known}; {what}"))),
        };
        let repeat = || {
            let Run { seed, arguments, .. } = self;
            format!("thalweg check {arguments}--seed {seed} --filter {}", quoted(&check.name))
        };
        Record {
            name: check.name.clone(),
            adapter: self.machine.id.clone(),
            kernel: check.kernel.into(),
            variant: variant.unwrap_or_else(|| check.variant.clone()),
            status,
            reason,
            error: error.filter(|error| error.is_finite()),
            tolerance: check.tolerance,
            seed: self.seed,
            ms: (time.as_secs_f64() * 1e6).round() / 1e3,
            repeat: status.fails().then(repeat),
        }
    }
}

/// The places of the checks, those of a variant together, so that one device compiles it and no other; in their order
/// otherwise.
fn groups(checks: &[Check]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut of_variant = HashMap::new();
    for (i, check) in checks.iter().enumerate() {
        // what is named after its kernel runs several variants
        let own = if check.variant == check.kernel { &check.name } else { &check.variant };
        let group = *of_variant.entry(own).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(i);
    }
    groups
}

/// Whether the device works after an error: wgpu may refuse what belongs to a lost device before it says that it is lost.
fn settled(gpu: &Gpu) -> Result<()> {
    for _ in 0..10 {
        // which panics on some drivers that have lost it
        let _ = catch_unwind(AssertUnwindSafe(|| gpu.device().poll(wgpu::PollType::Poll)));
        gpu.alive()?;
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

/// What a panic says.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// An argument for a shell, in single quotes.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
