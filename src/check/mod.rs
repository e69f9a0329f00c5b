//! Checks of the kernels on an adapter: cases with fresh random inputs against the f64 references, one file a kernel.

mod attention;
mod attention_merge;
mod attention_scores;
mod attention_split;
mod embed;
mod gate;
mod kv_store;
mod l2_normalize;
mod layer_norm;
mod matmul;
mod matvec;
mod pool;
mod random;
mod residual_add;
mod rig;
mod rms_norm;
mod rope;
mod sample;
mod soft_cap;
mod softmax;
mod vectors;

pub use random::Random;
pub use rig::{Contents, Outputs, run};
pub use vectors::{VectorOutcome, VectorStatus, run_vector, run_vectors, vector_files};

use crate::schedule::{Batch, Dispatch, Input, Slot};

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
    /// Slots whose rows belong to the batch's tokens, with the length of a row, an input first and the output last: what
    /// token locality is tested on.
    pub token_rows: Vec<(Slot, usize)>,
    /// Allowed ‖out − ref‖/‖ref‖.
    pub tolerance: f64,
}

/// Allowed relative error of an f32 kernel, whatever its weights are stored as: the reference reads the same bits.
pub const TOLERANCE: f64 = 5e-6;

/// Every case of every kernel, with inputs from `seed`.
pub fn cases(seed: u64) -> Vec<Case> {
    let makers: &[fn(&mut Random) -> Vec<Case>] = &[
        embed::cases,
        layer_norm::cases,
        rms_norm::cases,
        residual_add::cases,
        matmul::cases,
        matvec::cases,
        gate::cases,
        rope::cases,
        kv_store::cases,
        attention::cases,
        attention_split::cases,
        attention_merge::cases,
        attention_scores::cases,
        softmax::cases,
        soft_cap::cases,
        pool::cases,
        l2_normalize::cases,
        sample::cases,
    ];
    let mut random = Random::new(seed);
    makers.iter().flat_map(|make| make(&mut random)).collect()
}

/// A batch of so many tokens, all of one sequence.
fn tokens(count: usize) -> Batch {
    let mut batch = Batch::new(32);
    batch.push((0..count as u32).map(|i| (0, i, 0)), 0);
    batch
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
    /// Whether the outputs are what the reference says; the error message names the first slot that is not.
    pub fn judge(&self, outputs: &Outputs) -> Result<f64, String> {
        let mut worst = 0f64;
        for (slot, expected) in &self.expected {
            let error = relative_error(&outputs[slot], expected);
            if error.is_nan() || error > self.tolerance {
                let place = (0..expected.len().min(outputs[slot].len()))
                    .max_by(|&a, &b| {
                        let off = |i: usize| (f64::from(outputs[slot][i]) - expected[i]).abs();
                        // NaN is the worst of all
                        off(a).partial_cmp(&off(b)).unwrap_or(if off(a).is_nan() {
                            std::cmp::Ordering::Greater
                        } else {
                            std::cmp::Ordering::Less
                        })
                    })
                    .unwrap_or(0);
                return Err(format!(
                    "{} {}: relative error {error:e} in {slot:?}, worst at {place}: {:?} instead of {:?}",
                    self.label(),
                    self.shape,
                    outputs[slot].get(place),
                    expected.get(place),
                ));
            }
            worst = worst.max(error);
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
