//! The inventory: everything that a run checks, by name, before any of it is computed.

use std::collections::{HashMap, HashSet};

use super::case::{Case, Fault, Plan};
use super::invariants::{changeable, moved};
use super::random::Random;
use super::rig::{Outputs, run, run_in_rows};
use super::{invariants, pieces, plans};
use crate::error::Error;
use crate::gpu::Gpu;
use crate::kernels::{KERNELS, Needs};
use crate::schedule::Slot;

/// One thing that a run checks: a case of a kernel, an invariant, or a piece of a model.
pub struct Check {
    /// Unique.
    pub name: String,
    /// The kernel; `block`, `encoder` or `decoder` for pieces of models.
    pub kernel: &'static str,
    /// The variant's label; of an invariant of several, and of pieces, the kernel again.
    pub variant: String,
    /// Allowed ‖out − ref‖/‖ref‖; 0 where bits are compared.
    pub tolerance: f64,
    /// Whether only a full run has it.
    pub full: bool,
    /// What the device must have, or it is skipped.
    pub needs: Needs,
    pub(super) work: Box<Work>,
}

pub(super) type Work = dyn Fn(&Gpu, &mut Random) -> Result<Right, Wrong> + Send + Sync;

/// What there is to say of a check that passed.
#[derive(Clone, Debug, Default)]
pub struct Right {
    /// ‖out − ref‖/‖ref‖, where one was measured.
    pub error: Option<f64>,
    /// What else is to be known.
    pub note: Option<String>,
    /// The variants that ran, where they were not known before.
    pub variant: Option<String>,
}

impl From<f64> for Right {
    fn from(error: f64) -> Self {
        Right { error: Some(error), ..Right::default() }
    }
}

/// Why a check did not pass.
#[derive(Debug)]
pub enum Wrong {
    /// Other numbers.
    Numbers(Fault),
    /// No numbers.
    Failed(Error),
    /// Not wrong: it cannot be run here, for this reason.
    Skipped(String),
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Wrong::Numbers(fault)
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Wrong::Failed(error)
    }
}

impl Wrong {
    /// Bits that differ where they must not.
    pub(super) fn bits(what: String) -> Self {
        Wrong::Numbers(Fault { error: f64::NAN, what })
    }
}

impl Check {
    /// A check of that name whose `work` gives the relative error.
    pub fn new(
        kernel: &'static str,
        name: String,
        work: impl Fn(&Gpu, &mut Random) -> Result<f64, Wrong> + Send + Sync + 'static,
    ) -> Self {
        let work = Box::new(move |gpu: &Gpu, random: &mut Random| work(gpu, random).map(Right::from));
        let needs = Needs::NOTHING;
        Check { name, kernel, variant: kernel.into(), tolerance: 0.0, full: false, needs, work }
    }

    /// A kernel's case: the outputs are what the reference says, nothing else is written, a second run has the same bits, and
    /// no token's outputs depend on another's inputs but in attention.
    pub fn of_case(plan: Plan) -> Self {
        let (kernel, variant, tolerance) = (plan.kernel, plan.label().to_string(), plan.tolerance);
        let (full, needs) = (plan.full, plan.needs());
        let name = format!("{variant} {}", plan.shape);
        let work = move |gpu: &Gpu, random: &mut Random| {
            let case = plan.make(random);
            judged(gpu, random, &case)
        };
        Check { variant, tolerance, full, needs, ..Check::new(kernel, name, work) }
    }

    /// Does the work with inputs from a seed; the same seed and name give the same inputs, whatever else is run.
    ///
    /// # Errors
    /// [`Wrong`] where it does not pass.
    pub fn work(&self, gpu: &Gpu, seed: u64) -> Result<Right, Wrong> {
        (self.work)(gpu, &mut Random::of(seed, &self.name))
    }
}

/// Runs a case, runs it again with the workgroups dealt out otherwise, and runs it with the inputs of one token changed: the
/// outputs are what the reference says, the second have the same bits, and of the third only those differ that may.
pub(super) fn judged(gpu: &Gpu, random: &mut Random, case: &Case) -> Result<f64, Wrong> {
    let outputs = run(gpu, case)?;
    let error = case.judge(&outputs)?;
    let (first, second) = (bits(outputs), bits(run_in_rows(gpu, case, 3)?));
    if let Some((slot, _)) = first.iter().find(|(slot, words)| second.get(slot) != Some(words)) {
        return Err(Wrong::bits(format!(
            "two runs with the same inputs differ in {slot:?}, the second in three rows of workgroups"
        )));
    }
    let Some(tokens) = changeable(case) else { return Ok(error) };
    let changed = random.below(tokens);
    // of a sequence in a cache, another query's row changes nothing: its keys are there already
    let sequence = case.batch.sequences().into_iter().find(|rows| rows.contains(&changed));
    let local = KERNELS.iter().any(|kernel| kernel.name == case.kernel && kernel.token_local);
    let may = |token: usize| {
        token == changed || (!local && sequence.as_ref().is_some_and(|sequence| sequence.contains(&token)))
    };
    match moved(gpu, case, &first, changed)?.into_iter().find(|token| !may(*token)) {
        Some(other) => Err(Wrong::bits(format!("token {other} changes with the inputs of token {changed}"))),
        None => Ok(error),
    }
}

/// The bits of what was written.
pub(super) fn bits(outputs: Outputs) -> HashMap<Slot, Vec<u32>> {
    outputs.into_iter().map(|(slot, values)| (slot, values.into_iter().map(f32::to_bits).collect())).collect()
}

/// Everything that can be checked, kernels first, in a fixed order.
pub fn inventory() -> Vec<Check> {
    let mut all: Vec<Check> = plans().into_iter().map(Check::of_case).collect();
    all.extend(invariants::checks());
    all.extend(pieces::checks());
    let mut seen = HashSet::new();
    for check in &mut all {
        let name = check.name.clone();
        for number in 2.. {
            if seen.insert(check.name.clone()) {
                break;
            }
            check.name = format!("{name} ({number})");
        }
    }
    all
}

/// The checks of a run: those of the default set, or all; those whose name contains the filter, or the one whose name it
/// is. A filter that is a whole name chooses among all.
pub fn choose(mut checks: Vec<Check>, full: bool, filter: Option<&str>) -> Vec<Check> {
    if let Some(place) = filter.and_then(|filter| checks.iter().position(|check| check.name == filter)) {
        return vec![checks.swap_remove(place)];
    }
    checks.retain(|check| (full || !check.full) && filter.is_none_or(|filter| check.name.contains(filter)));
    checks
}
