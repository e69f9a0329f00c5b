//! Cases of `matvec`.

use super::Case;
use super::matmul::products_of;
use super::random::Random;
use crate::kernels::matmul::MatMul;
use crate::kernels::matvec::{Form, MatVec};

/// M, N, K: one row and several, around every edge of what a workgroup takes and of its lanes, and a model's.
const SHAPES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (1, 5, 4),
    (2, 33, 7),
    (3, 32, 253),
    (4, 31, 256),
    (5, 4, 260),
    (1, 65, 17),
    (8, 35, 511),
    (6, 66, 20),
    (9, 130, 3),
    (16, 96, 36),
    (17, 2, 64),
    (1, 576, 576),
    (4, 100, 1536),
];

pub fn cases(random: &mut Random) -> Vec<Case> {
    let products = Form::ALL.map(|form| move |product: &MatMul| few(form, product).dispatch());
    products.iter().flat_map(|product| products_of(random, &SHAPES, product)).collect()
}

fn few(form: Form, product: &MatMul) -> MatVec {
    let MatMul {
        weight_type,
        input,
        rows,
        weight,
        columns,
        depth,
        bias,
        activation,
        output,
        out_columns,
        out_first,
        ..
    } = *product;
    MatVec { form, weight_type, input, rows, weight, columns, depth, bias, activation, output, out_columns, out_first }
}
