//! Cases of `layer_norm`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::Reduce;
use crate::kernels::layer_norm::{LayerNorm, Output};
use crate::kernels::matmul::MatMul;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 2, 3, 31, 63, 64, 65, 130, 384, 1000] {
            for (rows, center) in [(1, 0.0), (7, 0.5), (33, -3.0)] {
                for in_place in [true, false] {
                    cases.push(case(random, reduce, in_place, rows, columns, center));
                }
            }
        }
        // more rows than workgroups in one dimension
        cases.push(case(random, reduce, true, 65_600, 3, 0.0));
    }
    cases
}

fn case(random: &mut Random, reduce: Reduce, in_place: bool, rows: usize, columns: usize, center: f32) -> Case {
    // neighbours differ by more than their size, so that no row of few columns has a variance of nearly nothing
    let mut stream = random.values(rows * columns, center, 0.8);
    for (i, x) in stream.iter_mut().enumerate() {
        *x += if (i % columns).is_multiple_of(2) { 1.0 } else { -1.0 };
    }
    let gamma = random.values(columns, 1.0, 0.5);
    let has_beta = rows != 7;
    let beta = random.values(columns, 0.0, if has_beta { 0.5 } else { 0.0 });
    let eps = 1e-5f32;
    let (rows_slot, out_slot, output) = if in_place {
        (Slot::Stream, Slot::Stream, Output::InPlace)
    } else {
        (Slot::Stream, Slot::Scratch(0), Output::Into { rows: Slot::Stream, output: Slot::Scratch(0) })
    };
    let norm = LayerNorm {
        reduce,
        gamma: Slot::Weight(0),
        beta: has_beta.then_some(Slot::Weight(1)),
        rows: MatMul::TOKENS,
        columns,
        eps,
        output,
    };
    let mut contents = Contents::from([(Slot::Weight(0), bytes(&gamma)), (Slot::Weight(1), bytes(&beta))]);
    contents.insert(out_slot, POISON.to_le_bytes().repeat(rows * columns));
    contents.insert(rows_slot, bytes(&stream));
    let expected = reference::layer_norm(&widen(&stream), &widen(&gamma), &widen(&beta), f64::from(eps));
    Case {
        kernel: "layer_norm",
        shape: format!("{rows} rows of {columns} around {center}"),
        dispatches: vec![norm.dispatch()],
        batch: tokens(rows),
        contents,
        expected: vec![(out_slot, expected)],
        token_rows: vec![(rows_slot, columns), (out_slot, columns)],
        tolerance: TOLERANCE,
    }
}
