//! Softmax, LayerNormalization and RMSNormalization by their kernels, over rows of whatever axes they name.

use std::collections::HashMap;

use super::case::{Step, VectorCase, fail, skip};
use super::kernels::{Kernels, bytes, poison};
use super::tensor::{Array, broadcast_strides, gather, permute};
use super::{Computed, first};
use crate::kernels::layer_norm::{LayerNorm, Output};
use crate::kernels::rms_norm::RmsNorm;
use crate::schedule::{Batch, Dim, Extent, Slot};

/// Along one axis, which becomes the last on the way; before opset 13, over all axes from that one on.
pub fn softmax(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let (values, shape) = case.floats(0)?;
    if case.opset < 13 {
        let axis = case.axis(1, shape.len())?;
        let values = kernels.softmax(values, shape[axis..].iter().product())?;
        return Ok(first(Array { shape: shape.to_vec(), values }));
    }
    let axis = case.axis(-1, shape.len())?;
    let mut order: Vec<usize> = (0..shape.len()).filter(|a| *a != axis).collect();
    order.push(axis);
    let moved: Vec<usize> = order.iter().map(|a| shape[*a]).collect();
    let out = kernels.softmax(&permute(values, shape, &order), shape[axis])?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, a)| back[*a] = i);
    Ok(first(Array { shape: shape.to_vec(), values: permute(&out, &moved, &back) }))
}

/// What both norms have in common: their rows, how long one is, γ, and ε.
struct Norm<'a> {
    values: &'a [f32],
    shape: &'a [usize],
    columns: usize,
    gamma: Vec<f32>,
    eps: f32,
}

impl<'a> Norm<'a> {
    fn of(case: &'a VectorCase) -> Step<Self> {
        let (values, shape) = case.floats(0)?;
        let axis = case.axis(-1, shape.len())?;
        match case.int("stash_type", 1)? {
            1 => {}
            other => return skip(format!("stash_type {other}: statistics are f32 (1)")),
        }
        Ok(Norm {
            values,
            shape,
            columns: shape[axis..].iter().product(),
            gamma: weight(case, 1, shape, axis)?,
            eps: case.float("epsilon")?.unwrap_or(1e-5),
        })
    }

    fn rows(&self) -> Extent {
        Extent::new((self.values.len() / self.columns) as u64, Dim::One)
    }

    fn run(
        &self,
        kernels: &mut Kernels,
        dispatch: crate::schedule::Dispatch,
        beta: Option<Vec<f32>>,
    ) -> Step<Computed> {
        let mut contents = HashMap::from([
            (Slot::Scratch(0), bytes(self.values)),
            (Slot::Scratch(1), poison(self.values.len())),
            (Slot::Weight(0), bytes(&self.gamma)),
        ]);
        contents.extend(beta.map(|b| (Slot::Weight(1), bytes(&b))));
        let values = kernels.run_for(Slot::Scratch(1), &[dispatch], &Batch::new(1), contents)?;
        // mean and inverse deviation, where they are expected, stay in the kernel's registers
        Ok(first(Array { shape: self.shape.to_vec(), values }))
    }
}

/// γ or β, repeated to a whole row.
fn weight(case: &VectorCase, position: usize, shape: &[usize], axis: usize) -> Step<Vec<f32>> {
    let (values, own) = case.floats_like_first(position)?;
    let Some(strides) = broadcast_strides(own, shape) else {
        return fail(format!("in.{position} has shape {own:?}, which cannot be broadcast to {shape:?}"));
    };
    if (0..axis).any(|a| strides[a] != 0 && shape[a] > 1) {
        return skip(format!("in.{position} differs from row to row: kernels take one row of it for all"));
    }
    Ok(gather(values, &shape[axis..], &strides[axis..]))
}

/// Rows are all axes from `axis` on.
pub fn layer_norm(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let norm = Norm::of(case)?;
    let axis = case.axis(-1, norm.shape.len())?;
    let beta = if case.inputs.contains_key(&2) { Some(weight(case, 2, norm.shape, axis)?) } else { None };
    let kernel = LayerNorm {
        sums: kernels.sums(),
        gamma: Slot::Weight(0),
        beta: beta.is_some().then_some(Slot::Weight(1)),
        rows: norm.rows(),
        columns: norm.columns,
        eps: norm.eps,
        output: Output::Into { rows: Slot::Scratch(0), output: Slot::Scratch(1) },
    };
    norm.run(kernels, kernel.dispatch(), beta)
}

/// The same without mean and β.
pub fn rms_norm(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let norm = Norm::of(case)?;
    let kernel = RmsNorm {
        sums: kernels.sums(),
        gamma: Slot::Weight(0),
        add_one: false,
        input: Slot::Scratch(0),
        output: Slot::Scratch(1),
        rows: norm.rows(),
        columns: norm.columns,
        heads: 1,
        stride: norm.columns,
        first: 0,
        eps: norm.eps,
    };
    norm.run(kernels, kernel.dispatch(), None)
}
