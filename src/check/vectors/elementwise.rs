//! Add by `residual_add`; Gelu and Swish by `gate`.

use super::case::{Step, Stop, VectorCase, fail, skip};
use super::kernels::Kernels;
use super::tensor::{Array, broadcast_shape, broadcast_strides, gather, room};
use super::{Computed, first};
use crate::kernels::activation::Activation;

/// Sums with broadcasting: both sides are repeated to the common shape, and one is added into the other.
pub fn add(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let (a, a_shape) = case.floats(0)?;
    let (b, b_shape) = case.floats_like_first(1)?;
    let Some(shape) = broadcast_shape(a_shape, b_shape) else {
        return fail(format!("shapes {a_shape:?} and {b_shape:?} cannot be broadcast together"));
    };
    if case.opset < 7 && a_shape != b_shape {
        return skip("broadcasting before opset 7 follows other rules");
    }
    room(&shape)?;
    let repeated = |values: &[f32], own: &[usize]| {
        let strides =
            broadcast_strides(own, &shape).ok_or_else(|| Stop::Fail("shapes that do not broadcast".into()))?;
        Ok::<_, Stop>(gather(values, &shape, &strides))
    };
    let values = kernels.add(&repeated(a, a_shape)?, &repeated(b, b_shape)?)?;
    Ok(first(Array { shape, values }))
}

/// `gate` with 1 for what is gated.
pub fn gelu(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let (values, shape) = case.floats(0)?;
    let activation = match case.attributes.get("approximate").map(|v| v.as_str()) {
        None | Some(Some("none")) => Activation::GeluErf,
        Some(Some("tanh")) => Activation::GeluTanh,
        Some(_) => return fail("attribute approximate is neither none nor tanh"),
    };
    let values = kernels.gate(activation, values, &vec![1.0; values.len()])?;
    Ok(first(Array { shape: shape.to_vec(), values }))
}

/// x · sigmoid(α·x): `gate`'s silu where α is 1, else α·x by `gate` without an activation, then its sigmoid beside x.
pub fn swish(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let (values, shape) = case.floats(0)?;
    let alpha = case.float("alpha")?.unwrap_or(1.0);
    let values = if alpha == 1.0 {
        kernels.gate(Activation::Silu, values, &vec![1.0; values.len()])?
    } else {
        let scaled = kernels.gate(Activation::None, values, &vec![alpha; values.len()])?;
        kernels.gate(Activation::Sigmoid, &scaled, values)?
    };
    Ok(first(Array { shape: shape.to_vec(), values }))
}
