//! Conformance: proves on an adapter that its numbers are right. Each kernel has a file of cases, which are run on fresh random
//! inputs beside the f64 references; invariants and pieces of models follow. [`inventory`] lists everything, [`choose`] picks,
//! [`Run`] runs, [`Report`] is what came of it.

pub(crate) mod attention;
pub(crate) mod attention_merge;
pub(crate) mod attention_mix;
pub(crate) mod attention_scores;
pub(crate) mod attention_split;
mod case;
mod decomposed;
pub(crate) mod edit;
pub(crate) mod embed;
mod expected;
pub(crate) mod forward;
pub(crate) mod gate;
mod invariants;
mod inventory;
pub(crate) mod kv_store;
pub(crate) mod l2_normalize;
pub(crate) mod layer_norm;
pub(crate) mod logit_stats;
pub(crate) mod matmul;
pub(crate) mod matvec;
pub(crate) mod models;
pub(crate) mod pieces;
pub(crate) mod pool;
mod random;
mod report;
pub(crate) mod residual_add;
mod rig;
pub(crate) mod rms_norm;
pub(crate) mod rope;
mod runner;
pub(crate) mod sample;
mod self_check;
pub(crate) mod soft_cap;
pub(crate) mod softmax;
pub(crate) mod split_heads;
pub(crate) mod summarize;
pub(crate) mod surprise;
pub(crate) mod take;
mod vectors;

pub use case::{Case, Fault, Inputs, Plan, Size, relative_error};
pub use expected::Expectation;
pub use inventory::{Check, Right, Wrong, choose, inventory};
pub use random::Random;
pub use report::{Format, Report};
pub use rig::{Contents, Outputs, run};
pub(crate) use rig::{POISON, outputs, parameters, written};
pub use runner::{Machine, Record, Run, Status, quoted};
pub(crate) use self_check::Verdicts;
pub use self_check::WrongVariant;
pub use vectors::{VectorOutcome, run_vector, vector_checks};

use crate::schedule::Batch;

/// Allowed relative error of an f32 kernel, whatever its weights are stored as: the reference reads the same bits.
pub const TOLERANCE: f64 = 5e-6;

/// Allowed relative error of a kernel that rounds its inputs to f16: the reference takes them as they were.
pub const HALF_TOLERANCE: f64 = 1e-3;

/// Every case of every kernel.
pub fn plans() -> Vec<Plan> {
    let makers: &[fn() -> Vec<Plan>] = &[
        embed::plans,
        layer_norm::plans,
        rms_norm::plans,
        residual_add::plans,
        matmul::plans,
        matvec::plans,
        gate::plans,
        rope::plans,
        kv_store::plans,
        attention::plans,
        attention_split::plans,
        attention_merge::plans,
        attention_scores::plans,
        softmax::plans,
        attention_mix::plans,
        soft_cap::plans,
        pool::plans,
        l2_normalize::plans,
        sample::plans,
        edit::plans,
        logit_stats::plans,
        split_heads::plans,
        summarize::plans,
        take::plans,
        surprise::plans,
    ];
    makers.iter().flat_map(|make| make()).collect()
}

/// A batch of so many tokens, all of one sequence.
fn tokens(count: usize) -> Batch {
    let mut batch = Batch::new(32);
    batch.push((0..count as u32).map(|i| (0, i, 0)), 0);
    batch
}
