//! A test vector as its file has it: tensors by position, an operator, its attributes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::tensor::{Data, MAX_ELEMENTS, Tensor};
use crate::error::Error;
use crate::files::{Checkpoint, Dtype, found, quote};

/// Why a case ends before its outputs are compared.
#[derive(Debug)]
pub enum Stop {
    /// It uses what no kernel claims.
    Skip(String),
    /// It is damaged or contradicts itself, or a kernel did what it must not.
    Fail(String),
    /// The device is gone: no other case can run either.
    Lost(Error),
}

pub type Step<T> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::DeviceLost(_) => Stop::Lost(error),
            other => Stop::Fail(other.to_string()),
        }
    }
}

/// A skip, by its reason.
pub fn skip<T>(reason: impl Into<String>) -> Step<T> {
    Err(Stop::Skip(reason.into()))
}

/// A failure, by its reason.
pub fn fail<T>(reason: impl Into<String>) -> Step<T> {
    Err(Stop::Fail(reason.into()))
}

/// One test vector.
#[derive(Debug)]
pub struct VectorCase {
    pub op: String,
    pub opset: i64,
    pub attributes: Map<String, Value>,
    /// Allowed error, where the file has one.
    pub tolerance: Option<f64>,
    pub inputs: BTreeMap<usize, Tensor>,
    pub outputs: BTreeMap<usize, Tensor>,
}

impl VectorCase {
    /// Reads a file.
    pub fn open(path: &Path) -> Step<Self> {
        let file = Checkpoint::open_file(path)?;
        let text = |key: &str| file.metadata().get(key).map(String::as_str);
        let Some(op) = text("op") else { return fail("the metadata has no `op`") };
        let Some(opset) = text("opset").and_then(|t| t.parse().ok()).filter(|n| *n > 0) else {
            return fail(format!(
                "the metadata's `opset` is {}, expected a number",
                quote(text("opset").unwrap_or(""))
            ));
        };
        let attributes = match serde_json::from_str(text("attributes").unwrap_or("{}")) {
            Ok(Value::Object(map)) => map,
            Ok(other) => return fail(format!("the metadata's `attributes` are {}, expected an object", found(&other))),
            Err(e) => return fail(format!("the metadata's `attributes` are not JSON: {e}")),
        };
        let tolerance = match text("tolerance").map(|t| (t, t.parse::<f64>())) {
            None => None,
            Some((_, Ok(number))) if number.is_finite() && number >= 0.0 => Some(number),
            Some((t, _)) => return fail(format!("the metadata's `tolerance` is {}, expected a number", quote(t))),
        };
        let mut elements = 0u64;
        for info in file.tensors() {
            elements = elements.saturating_add(info.elements());
            if elements > 2 * MAX_ELEMENTS as u64 {
                return fail(format!("more than {} elements in one file", 2 * MAX_ELEMENTS));
            }
        }
        let mut case = VectorCase {
            op: op.into(),
            opset,
            attributes,
            tolerance,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
        };
        for info in file.tensors() {
            let Some((side, position)) = place(&info.name) else {
                return fail(format!("tensor {}: expected a name such as in.0 or out.0", quote(&info.name)));
            };
            let tensors = if side == "in" { &mut case.inputs } else { &mut case.outputs };
            tensors.insert(position, Tensor::read(&file, info)?);
        }
        Ok(case)
    }

    /// An input that must be there.
    pub fn input(&self, position: usize) -> Step<&Tensor> {
        self.inputs.get(&position).ok_or_else(|| Stop::Fail(format!("in.{position} is missing")))
    }

    /// The finite floats of an input that must be there, and their shape.
    pub fn floats(&self, position: usize) -> Step<(&[f32], &[usize])> {
        let tensor = self.input(position)?;
        let Data::Floats(values) = &tensor.data else {
            return skip(format!("in.{position} is {}: kernels take F32, F16 and BF16", tensor.dtype));
        };
        match values.iter().position(|x| !x.is_finite()) {
            _ if values.is_empty() => skip(format!("in.{position} is empty: there is nothing to run")),
            Some(i) => skip(format!("in.{position} has {} at {i}: kernels assume finite numbers", values[i])),
            None => Ok((values, &tensor.shape)),
        }
    }

    /// The same of an input of the same type as `in.0`, as all that an operator computes with are.
    pub fn floats_like_first(&self, position: usize) -> Step<(&[f32], &[usize])> {
        let (own, first) = (self.input(position)?.dtype, self.input(0)?.dtype);
        if own != first {
            return fail(format!("in.{position} is {own}, expected {first} as in.0"));
        }
        self.floats(position)
    }

    /// The whole numbers of an input, where it is there, and their shape.
    pub fn ints(&self, position: usize) -> Step<Option<(&[i64], &[usize])>> {
        let Some(tensor) = self.inputs.get(&position) else { return Ok(None) };
        match &tensor.data {
            Data::Ints(values) => Ok(Some((values, &tensor.shape))),
            _ => fail(format!("in.{position} is {}, expected I64", tensor.dtype)),
        }
    }

    /// The type of `in.0`, and so of the outputs.
    pub fn dtype(&self) -> Step<Dtype> {
        Ok(self.input(0)?.dtype)
    }

    /// Allowed ‖out − expected‖/‖expected‖: that of f32 and f16 kernels; of bf16, whose expected numbers are themselves
    /// rounded to 8 bits, twice their rounding; the file's own where that is more.
    pub fn allowed(&self) -> Step<f64> {
        let of_type = match self.dtype()? {
            Dtype::F16 => 1e-3,
            Dtype::Bf16 => 8e-3,
            _ => crate::check::TOLERANCE,
        };
        Ok(self.tolerance.map_or(of_type, |own| own.max(of_type)))
    }

    /// A whole number among the attributes.
    pub fn int(&self, name: &str, default: i64) -> Step<i64> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(value) => {
                let wrong = || Stop::Fail(format!("attribute {name} is {}, expected a whole number", found(value)));
                value.as_i64().ok_or_else(wrong)
            }
        }
    }

    /// A flag among the attributes, off where it is left out.
    pub fn flag(&self, name: &str) -> Step<bool> {
        match self.int(name, 0)? {
            0 => Ok(false),
            1 => Ok(true),
            other => fail(format!("attribute {name} is {other}, expected 0 or 1")),
        }
    }

    /// A finite number among the attributes.
    pub fn float(&self, name: &str) -> Step<Option<f32>> {
        let Some(value) = self.attributes.get(name) else { return Ok(None) };
        match value.as_f64().map(|x| x as f32).filter(|x| x.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => fail(format!("attribute {name} is {}, expected a finite number", found(value))),
        }
    }

    /// An axis among the attributes, counted from the first of `rank`; negative ones count from the last.
    pub fn axis(&self, default: i64, rank: usize) -> Step<usize> {
        let axis = self.int("axis", default)?;
        let from_first = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(from_first).ok().filter(|a| *a < rank) {
            Some(axis) => Ok(axis),
            None => fail(format!("axis {axis} of a tensor of {rank} dimensions")),
        }
    }
}

/// `in` or `out`, and the number behind it.
fn place(name: &str) -> Option<(&str, usize)> {
    let (side, number) = name.split_once('.')?;
    let position: usize = number.parse().ok()?;
    // the one spelling: no sign, no zeros in front
    (matches!(side, "in" | "out") && position < 64 && number == position.to_string()).then_some((side, position))
}
