//! Test vectors: cases from outside, a safetensors file each, run on the engine's own kernels through a small mapping from
//! ONNX operators.
//!
//! Every sum, product and exponential of an operator is done by a kernel, in the variant that models run on this adapter. The
//! host reshapes, permutes, repeats and pads by index arithmetic, and widens and rounds types. What no kernel claims is a skip
//! with its reason; what contradicts itself is a failure, as is NaN.

mod attention;
mod attention_composed;
mod attention_fused;
mod attention_input;
mod case;
mod compare;
mod elementwise;
mod kernels;
mod matmul;
mod rotary;
mod rows;
mod tensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::case::Fault;
use super::inventory::{Check, Right, Wrong};
use super::random::Random;
use super::runner::Status;
use crate::error::{Error, Result};
use crate::files::quote;
use crate::gpu::Gpu;
use crate::kernels::Needs;
use case::{Step, Stop, VectorCase, fail, skip};
use kernels::Kernels;
use tensor::Array;

/// What became of a test vector, and why.
#[derive(Clone, Debug)]
pub struct VectorOutcome {
    /// The file's name without its extension.
    pub name: String,
    /// The ONNX operator; empty where the file cannot be read.
    pub op: String,
    /// Labels of the variants that ran, in the order of their first use.
    pub kernels: Vec<String>,
    /// Whether it is right.
    pub status: Status,
    /// One sentence for all but a plain pass; of a pass, which optional outputs were not compared.
    pub reason: Option<String>,
    /// The worst ‖out − expected‖/‖expected‖ of the outputs, where they passed.
    pub error: Option<f64>,
    /// What is allowed: 5e-6 for f32, 1e-3 for f16, 8e-3 for bf16, or the file's own where that is more.
    pub tolerance: f64,
}

/// What an operator computed, by the outputs' positions.
type Computed = BTreeMap<usize, Array>;

/// One output, the first.
fn first(array: Array) -> Computed {
    Computed::from([(0, array)])
}

/// An ONNX operator, and how kernels do it.
struct Operator {
    name: &'static str,
    /// The opset that it came with.
    since: i64,
    /// The attributes that are followed; any other is a skip.
    attributes: &'static [&'static str],
    /// The most inputs that it has.
    inputs: usize,
    /// Its outputs' names.
    outputs: &'static [&'static str],
    run: fn(&VectorCase, &mut Kernels) -> Step<Computed>,
}

const OPERATORS: &[Operator] = &[
    Operator { name: "MatMul", since: 1, attributes: &[], inputs: 2, outputs: &["Y"], run: matmul::matmul },
    Operator { name: "Add", since: 1, attributes: &[], inputs: 2, outputs: &["C"], run: elementwise::add },
    Operator { name: "Softmax", since: 1, attributes: &["axis"], inputs: 1, outputs: &["output"], run: rows::softmax },
    Operator {
        name: "LayerNormalization",
        since: 17,
        attributes: &["axis", "epsilon", "stash_type"],
        inputs: 3,
        outputs: &["Y", "Mean", "InvStdDev"],
        run: rows::layer_norm,
    },
    Operator {
        name: "RMSNormalization",
        since: 23,
        attributes: &["axis", "epsilon", "stash_type"],
        inputs: 2,
        outputs: &["Y"],
        run: rows::rms_norm,
    },
    Operator {
        name: "Gelu",
        since: 20,
        attributes: &["approximate"],
        inputs: 1,
        outputs: &["Y"],
        run: elementwise::gelu,
    },
    Operator { name: "Swish", since: 24, attributes: &["alpha"], inputs: 1, outputs: &["Y"], run: elementwise::swish },
    Operator {
        name: "RotaryEmbedding",
        since: 23,
        attributes: &["interleaved", "num_heads", "rotary_embedding_dim"],
        inputs: 4,
        outputs: &["Y"],
        run: rotary::rotary,
    },
    Operator {
        name: "Attention",
        since: 23,
        attributes: &[
            "is_causal",
            "kv_num_heads",
            "left_window_size",
            "q_num_heads",
            "qk_matmul_output_mode",
            "right_window_size",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        inputs: 7,
        outputs: &["Y", "present_key", "present_value", "qk_matmul_output"],
        run: attention::attention,
    },
];

/// The test vectors of a folder, its `.safetensors` files, as checks by their names.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be listed, [`Error::File`] where it has no such file. What is wrong with a file is
/// for its check to say.
pub fn vector_checks(dir: &Path) -> Result<Vec<Check>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::file(dir, "expected test vectors, found no .safetensors file in this folder"));
    }
    files.sort();
    Ok(files.into_iter().map(check).collect())
}

fn check(path: PathBuf) -> Check {
    let case = VectorCase::open(&path).ok();
    let operator = OPERATORS.iter().find(|o| case.as_ref().is_some_and(|case| case.op == o.name));
    let (kernel, name) = (operator.map_or("vector", |o| o.name), stem(&path));
    let tolerance = case.and_then(|case| case.allowed().ok()).unwrap_or(super::TOLERANCE);
    let work = Box::new(move |gpu: &Gpu, _: &mut Random| {
        let outcome = run_vector(gpu, &path)?;
        let reason = outcome.reason.unwrap_or_default();
        match outcome.status {
            Status::Pass => Ok(Right {
                error: outcome.error,
                note: Some(reason).filter(|reason| !reason.is_empty()),
                variant: Some(outcome.kernels.join(" ")),
            }),
            Status::Skip => Err(Wrong::Skipped(reason)),
            _ => Err(Wrong::Numbers(Fault { error: f64::NAN, what: reason })),
        }
    });
    let needs = Needs::NOTHING;
    Check { name, kernel, variant: kernel.into(), tolerance, full: false, needs, work }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs one test vector.
///
/// # Errors
/// [`Error::DeviceLost`] only; whatever is wrong with the file is the outcome's reason.
pub fn run_vector(gpu: &Gpu, path: &Path) -> Result<VectorOutcome> {
    let mut outcome = VectorOutcome {
        name: stem(path),
        op: String::new(),
        kernels: Vec::new(),
        status: Status::Pass,
        reason: None,
        error: None,
        tolerance: super::TOLERANCE,
    };
    let mut kernels = Kernels::new(gpu);
    let result = run_case(path, &mut kernels, &mut outcome);
    outcome.kernels = kernels.labels;
    match result {
        Ok(()) => {}
        Err(Stop::Skip(reason)) => (outcome.status, outcome.reason) = (Status::Skip, Some(reason)),
        Err(Stop::Fail(reason)) => (outcome.status, outcome.reason) = (Status::Fail, Some(reason)),
        Err(Stop::Lost(error)) => return Err(error),
    }
    Ok(outcome)
}

fn run_case(path: &Path, kernels: &mut Kernels, outcome: &mut VectorOutcome) -> Step<()> {
    let case = VectorCase::open(path)?;
    outcome.op.clone_from(&case.op);
    let Some(operator) = OPERATORS.iter().find(|o| o.name == case.op) else {
        return skip(format!("no kernel does the operator {}", quote(&case.op)));
    };
    let (name, since) = (operator.name, operator.since);
    if case.opset < since {
        return skip(format!("opset {} has no {name}, which came with {since}", case.opset));
    }
    if let Some(other) = case.attributes.keys().find(|key| !operator.attributes.contains(&key.as_str())) {
        return skip(format!("the attribute {} of {name} is not followed", quote(other)));
    }
    for (side, last, most) in [
        ("in", case.inputs.keys().next_back(), operator.inputs),
        ("out", case.outputs.keys().next_back(), operator.outputs.len()),
    ] {
        if let Some(last) = last.filter(|last| **last >= most) {
            return fail(format!("{name} has no {side}.{last}"));
        }
    }
    outcome.tolerance = case.allowed()?;
    let computed = (operator.run)(&case, kernels)?;
    let (error, left_out) = compare::compare(&case, &computed, outcome.tolerance)?;
    outcome.error = Some(error);
    if !left_out.is_empty() {
        let named: Vec<_> = left_out.iter().map(|&i| format!("out.{i} ({})", operator.outputs[i])).collect();
        outcome.reason = Some(format!("not compared, since no kernel produces it: {}", named.join(", ")));
    }
    Ok(())
}
