//! A case of a kernel: what is known of it before anything is computed, and the same with its inputs and what they should
//! give.

use super::rig::{Contents, Outputs};
use super::{HALF_TOLERANCE, Random, TOLERANCE};
use crate::kernels::Needs;
use crate::schedule::{Batch, Dispatch, Input, Slot};

/// A case before anything is computed: cheap, so that all of them can be listed and some of them run.
pub struct Plan {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Its shape, in words.
    pub shape: String,
    /// What is run, in order.
    pub dispatches: Vec<Dispatch>,
    /// As [`Case::token_rows`].
    pub token_rows: Vec<(Slot, usize)>,
    /// Allowed ‖out − ref‖/‖ref‖.
    pub tolerance: f64,
    /// How much work it is.
    pub size: Size,
    /// Whether only a full run has it.
    pub full: bool,
    pub(super) inputs: Box<dyn Fn(&mut Random) -> Inputs + Send + Sync>,
}

/// How much work a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// Milliseconds, its reference included: the self-check runs these.
    Small,
    /// As much as a real model's, or more.
    Large,
}

/// What a case reads, and what it should write.
pub struct Inputs {
    batch: Batch,
    contents: Contents,
    expected: Vec<(Slot, Vec<f64>)>,
    sampled: Vec<(Slot, Vec<(usize, f64)>)>,
    same: Vec<(Slot, Slot)>,
}

impl Inputs {
    /// A batch, what is in the buffers before, and what should be in them after.
    pub fn new(batch: Batch, contents: Contents, expected: Vec<(Slot, Vec<f64>)>) -> Self {
        Inputs { batch, contents, expected, sampled: Vec::new(), same: Vec::new() }
    }

    /// The same with some elements of a large output, by their places.
    pub fn sampled(mut self, slot: Slot, elements: Vec<(usize, f64)>) -> Self {
        self.sampled.push((slot, elements));
        self
    }

    /// The same with two outputs that must agree: what a case's last dispatch makes a second time, in the plainest way.
    pub fn same(mut self, one: Slot, other: Slot) -> Self {
        self.same.push((one, other));
        self
    }
}

/// One run of a kernel (or of its chunks, one after another) with everything that it reads and should write.
#[derive(Clone, Debug)]
pub struct Case {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Its shape, in words.
    pub shape: String,
    /// What is run, in order.
    pub dispatches: Vec<Dispatch>,
    /// The batch, whose sizes the dispatches refer to.
    pub batch: Batch,
    /// What is in the buffers before.
    pub contents: Contents,
    /// What should be in them after, by the reference.
    pub expected: Vec<(Slot, Vec<f64>)>,
    /// Some elements of outputs that are too large for the reference, by their places.
    pub sampled: Vec<(Slot, Vec<(usize, f64)>)>,
    /// Outputs that must agree, all of their elements.
    pub same: Vec<(Slot, Slot)>,
    /// Slots whose rows belong to the batch's tokens, with the length of a row, an input first and the output last: what
    /// token locality is tested on.
    pub token_rows: Vec<(Slot, usize)>,
    /// Allowed ‖out − ref‖/‖ref‖.
    pub tolerance: f64,
}

/// What is wrong with an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// ‖out − ref‖/‖ref‖; NaN where the output has one.
    pub error: f64,
    /// One sentence that names the buffer and its worst element.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl Plan {
    /// A case of a kernel by what is run; `inputs` makes the rest from random numbers.
    pub fn new(
        kernel: &'static str,
        shape: String,
        dispatches: Vec<Dispatch>,
        token_rows: Vec<(Slot, usize)>,
        inputs: impl Fn(&mut Random) -> Inputs + Send + Sync + 'static,
    ) -> Self {
        let inputs = Box::new(inputs);
        let halves = dispatches.iter().any(|dispatch| dispatch.variant.needs.matrix > 0);
        let tolerance = if halves { HALF_TOLERANCE } else { TOLERANCE };
        Plan { kernel, shape, dispatches, token_rows, tolerance, size: Size::Small, full: false, inputs }
    }

    /// The same, of another size.
    pub fn sized(self, size: Size) -> Self {
        Plan { size, ..self }
    }

    /// The same, for full runs only.
    pub fn only_full(self) -> Self {
        Plan { full: true, ..self }
    }

    /// The variant that it runs.
    pub fn label(&self) -> &str {
        self.dispatches.first().map_or(self.kernel, |d| &d.variant.label)
    }

    /// What the device must have.
    pub fn needs(&self) -> Needs {
        self.dispatches.iter().map(|d| d.variant.needs).fold(Needs::NOTHING, Needs::and)
    }

    /// The case with inputs from `random`.
    pub fn make(&self, random: &mut Random) -> Case {
        let Inputs { batch, contents, expected, sampled, same } = (self.inputs)(random);
        Case {
            kernel: self.kernel,
            shape: self.shape.clone(),
            dispatches: self.dispatches.clone(),
            batch,
            contents,
            expected,
            sampled,
            same,
            token_rows: self.token_rows.clone(),
            tolerance: self.tolerance,
        }
    }
}

/// ‖out − ref‖/‖ref‖; NaN where any output is NaN, so that no comparison with it passes.
pub fn relative_error(out: &[f32], expected: &[f64]) -> f64 {
    if out.len() != expected.len() {
        return f64::NAN;
    }
    let norm = |sum: f64| sum.sqrt();
    let error = norm(out.iter().zip(expected).map(|(o, e)| (f64::from(*o) - e).powi(2)).sum());
    let size = norm(expected.iter().map(|e| e * e).sum());
    if size == 0.0 { error } else { error / size }
}

impl Case {
    /// The largest relative error of its outputs; or what is wrong with the first of them that is not what the reference
    /// says.
    pub fn judge(&self, outputs: &Outputs) -> Result<f64, Fault> {
        let mut worst = 0f64;
        for (slot, expected) in &self.expected {
            let places = |i| i;
            worst = worst.max(compare(&outputs[slot], expected, places, self.tolerance, &format!("{slot:?}"))?);
        }
        for (slot, elements) in &self.sampled {
            let out = &outputs[slot];
            if let Some(place) = out.iter().position(|x| !x.is_finite()) {
                let what = format!("{slot:?} is {:?} at {place}", out[place]);
                return Err(Fault { error: f64::NAN, what });
            }
            let (places, expected): (Vec<usize>, Vec<f64>) = elements.iter().copied().unzip();
            let found: Vec<f32> = places.iter().map(|&i| out.get(i).copied().unwrap_or(f32::NAN)).collect();
            let name = format!("{} elements of {slot:?}", places.len());
            worst = worst.max(compare(&found, &expected, |i| places[i], self.tolerance, &name)?);
        }
        for (one, other) in &self.same {
            let expected: Vec<f64> = outputs[other].iter().copied().map(f64::from).collect();
            let name = format!("{one:?} beside the plainest variant");
            worst = worst.max(compare(&outputs[one], &expected, |i| i, self.tolerance, &name)?);
        }
        Ok(worst)
    }

    /// What is in a buffer before: the batch's parts included.
    pub fn contents_of(&self, slot: Slot) -> &[u8] {
        match slot {
            Slot::Input(input) => self.batch.input(input),
            _ => self.contents.get(&slot).map_or(&[], Vec::as_slice),
        }
    }

    /// The same case with the row of one token changed: other values, or another token's id.
    pub fn with_changed_row(&self, slot: Slot, width: usize, row: usize) -> Case {
        let mut case = self.clone();
        if let Slot::Input(Input::Tokens) = slot {
            case.batch.change_id(row);
            return case;
        }
        if let Some(bytes) = case.contents.get_mut(&slot) {
            let mut random = Random::new(row as u64 + 1);
            for value in bytes[4 * row * width..4 * (row + 1) * width].chunks_exact_mut(4) {
                value.copy_from_slice(&random.uniform().to_le_bytes());
            }
        }
        case
    }

    /// The variant that it runs.
    pub fn label(&self) -> &str {
        self.dispatches.first().map_or(self.kernel, |d| &d.variant.label)
    }
}

/// The relative error where it is allowed, else the fault; `places` are where the elements lie in the buffer.
fn compare(
    out: &[f32],
    expected: &[f64],
    places: impl Fn(usize) -> usize,
    tolerance: f64,
    name: &str,
) -> Result<f64, Fault> {
    let error = relative_error(out, expected);
    if error <= tolerance {
        return Ok(error);
    }
    let off = |i: usize| (f64::from(out[i]) - expected[i]).abs();
    // NaN is the worst of all
    let worse = |&a: &usize, &b: &usize| off(a).is_nan().cmp(&off(b).is_nan()).then(off(a).total_cmp(&off(b)));
    let Some(worst) = (0..expected.len().min(out.len())).max_by(worse) else {
        return Err(Fault { error, what: format!("{name} has {} elements, not {}", out.len(), expected.len()) });
    };
    let (place, found, wanted) = (places(worst), out[worst], expected[worst]);
    let what = format!("{name}: relative error {error:.2e}, worst at {place}: {found:?} instead of {wanted:?}");
    Err(Fault { error, what })
}
