//! What an operator computed beside what its test vector expects.

use std::collections::BTreeMap;

use super::case::{Step, Stop, VectorCase, fail};
use super::tensor::{Array, Data, Tensor};
use crate::files::Dtype;

/// The worst relative error of the outputs that were computed, and the positions of those that were not.
pub fn compare(case: &VectorCase, computed: &BTreeMap<usize, Array>, tolerance: f64) -> Step<(f64, Vec<usize>)> {
    if !case.outputs.contains_key(&0) {
        return fail("out.0 is missing");
    }
    let (mut worst, mut left_out) = (0f64, Vec::new());
    for (&position, expected) in &case.outputs {
        let Some(array) = computed.get(&position) else {
            left_out.push(position);
            continue;
        };
        let dtype = case.dtype()?;
        let Data::Floats(values) = &expected.data else {
            return fail(format!("out.{position} is {}, expected {dtype} as in.0", expected.dtype));
        };
        if expected.dtype != dtype {
            return fail(format!("out.{position} is {}, expected {dtype} as in.0", expected.dtype));
        }
        if expected.shape != array.shape {
            let shapes = (&expected.shape, &array.shape);
            return fail(format!("out.{position} has shape {:?}, and the operator gives {:?}", shapes.0, shapes.1));
        }
        if array.values.len() != values.len() {
            return fail(format!(
                "out.{position} has {} elements, and {} were computed",
                values.len(),
                array.values.len()
            ));
        }
        let stored: Vec<f32> = array.values.iter().map(|x| rounded(*x, dtype)).collect();
        worst = worst.max(error(position, &stored, values, tolerance, expected)?);
    }
    Ok((worst, left_out))
}

/// As it is stored in that type.
fn rounded(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::from_f32(value).to_f32(),
        Dtype::Bf16 => half::bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// The relative error, over all and element by element; NaN never passes, and an infinity only where it is expected.
fn error(position: usize, out: &[f32], expected: &[f32], tolerance: f64, tensor: &Tensor) -> Step<f64> {
    let largest = expected.iter().filter(|e| e.is_finite()).fold(1f64, |m, e| m.max(f64::from(e.abs())));
    let (mut difference, mut size) = (0f64, 0f64);
    for (i, (&o, &e)) in out.iter().zip(expected).enumerate() {
        if e.is_infinite() && o == e {
            continue;
        }
        let (wide_o, wide_e) = (f64::from(o), f64::from(e));
        let off = (wide_o - wide_e).abs();
        let allowed = 1e-3 * wide_e.abs() + 2.0 * tolerance * largest;
        // NaN passes no comparison
        if !(off <= allowed && o.is_finite() && e.is_finite()) {
            return Err(Stop::Fail(format!("out.{position}: {o:?} instead of {e:?} at {i} of {:?}", tensor.shape)));
        }
        difference += off * off;
        size += wide_e * wide_e;
    }
    let relative = if size == 0.0 { difference.sqrt() } else { (difference / size).sqrt() };
    if relative.is_nan() || relative > tolerance {
        return fail(format!("out.{position}: relative error {relative:e}, and {tolerance:e} is allowed"));
    }
    Ok(relative)
}
