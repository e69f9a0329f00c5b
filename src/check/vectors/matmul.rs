//! MatMul by `matmul`: a right side without a batch is a weight, multiplied with all rows at once; else a product for each
//! element of the batch.

use super::case::{Step, VectorCase, fail};
use super::kernels::Kernels;
use super::tensor::{Array, broadcast_shape, broadcast_strides, gather, permute, room};
use super::{Computed, first};
use crate::files::Dtype;
use crate::kernels::WeightType;

/// Follows numpy's rules for vectors and batches. The right side is stored as the file has it, f32, f16 or bf16.
pub fn matmul(case: &VectorCase, kernels: &mut Kernels) -> Step<Computed> {
    let (a, a_shape) = case.floats(0)?;
    let (b, b_shape) = case.floats_like_first(1)?;
    if a_shape.is_empty() || b_shape.is_empty() {
        return fail("a product of scalars");
    }
    let weight_type = match case.dtype()? {
        Dtype::F16 => WeightType::F16,
        Dtype::Bf16 => WeightType::Bf16,
        _ => WeightType::F32,
    };
    // a vector is a row on the left and a column on the right, which the output does without
    let (a_vector, b_vector) = (a_shape.len() == 1, b_shape.len() == 1);
    let a_shape = if a_vector { vec![1, a_shape[0]] } else { a_shape.to_vec() };
    let b_shape = if b_vector { vec![b_shape[0], 1] } else { b_shape.to_vec() };
    let (a_batch, &[m, k]) = a_shape.split_last_chunk().unwrap_or((&[], &[0, 0]));
    let (b_batch, &[depth, n]) = b_shape.split_last_chunk().unwrap_or((&[], &[0, 0]));
    if k != depth {
        return fail(format!("{k} columns times {depth} rows"));
    }
    let Some(batch) = broadcast_shape(a_batch, b_batch) else {
        return fail(format!("batches {a_batch:?} and {b_batch:?} cannot be broadcast together"));
    };
    let mut shape = batch.clone();
    shape.extend([m, n]);
    room(&shape)?;
    // every element of the right batch with its columns one behind another, as weights are stored
    let blocks = b.len() / (k * n);
    let transposed = permute(b, &[blocks, k, n], &[0, 2, 1]);
    let values = if blocks == 1 {
        kernels.matmul(a, &transposed, [a.len() / k, k, n], weight_type)?
    } else {
        let places = |own: &[usize]| {
            let all: Vec<usize> = (0..own.iter().product()).collect();
            broadcast_strides(own, &batch).map(|strides| gather(&all, &batch, &strides)).unwrap_or_default()
        };
        let mut values = Vec::new();
        for (i, j) in places(a_batch).into_iter().zip(places(b_batch)) {
            let rows = &a[i * m * k..(i + 1) * m * k];
            let weight = &transposed[j * k * n..(j + 1) * k * n];
            values.extend(kernels.matmul(rows, weight, [m, k, n], weight_type)?);
        }
        values
    };
    if a_vector {
        shape.remove(shape.len() - 2);
    }
    if b_vector {
        shape.pop();
    }
    Ok(first(Array { shape, values }))
}
