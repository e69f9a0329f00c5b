//! Cases of `rms_norm`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::Reduce;
use crate::kernels::rms_norm::RmsNorm;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for reduce in Reduce::ALL {
        for add_one in [false, true] {
            for columns in [1, 2, 3, 63, 64, 65, 130, 576, 1000] {
                for rows in [1, 7, 33] {
                    cases.push(whole_rows(random, reduce, add_one, rows, columns));
                }
            }
            for (heads, columns) in [(1, 5), (3, 10), (4, 64), (7, 33)] {
                cases.push(heads_in_place(random, reduce, add_one, heads, columns));
            }
        }
    }
    cases
}

const EPS: f32 = 1e-6;

/// Rows from one buffer into another.
fn whole_rows(random: &mut Random, reduce: Reduce, add_one: bool, rows: usize, columns: usize) -> Case {
    let values = random.values(rows * columns, 0.5, 2.0);
    let gamma = random.values(columns, if add_one { 0.2 } else { 1.0 }, 0.5);
    let norm = RmsNorm {
        reduce,
        gamma: Slot::Weight(0),
        add_one,
        input: Slot::Scratch(0),
        output: Slot::Scratch(1),
        rows: Extent::new(1, Dim::Tokens),
        columns,
        heads: 1,
        stride: columns,
        first: 0,
        eps: EPS,
    };
    Case {
        kernel: "rms_norm",
        shape: format!("{rows} rows of {columns}"),
        dispatches: vec![norm.dispatch()],
        batch: tokens(rows),
        contents: Contents::from([
            (Slot::Weight(0), bytes(&gamma)),
            (Slot::Scratch(0), bytes(&values)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(rows * columns)),
        ]),
        expected: vec![(Slot::Scratch(1), reference::rms_norm(&widen(&values), &scale(&gamma, add_one), EPS.into()))],
        token_rows: vec![(Slot::Scratch(0), columns), (Slot::Scratch(1), columns)],
        tolerance: TOLERANCE,
    }
}

/// Heads in the middle of rows, in place.
fn heads_in_place(random: &mut Random, reduce: Reduce, add_one: bool, heads: usize, columns: usize) -> Case {
    const ROWS: usize = 9;
    let (first, width) = (5, heads * columns);
    let stride = first + width + 3;
    let values = random.values(ROWS * stride, 0.5, 2.0);
    let gamma = random.values(columns, if add_one { 0.2 } else { 1.0 }, 0.5);
    let norm = RmsNorm {
        reduce,
        gamma: Slot::Weight(0),
        add_one,
        input: Slot::Scratch(0),
        output: Slot::Scratch(0),
        rows: Extent::new(1, Dim::Tokens),
        columns,
        heads,
        stride,
        first,
        eps: EPS,
    };
    let mut expected = widen(&values);
    for row in expected.chunks_exact_mut(stride) {
        let heads = &mut row[first..first + width];
        heads.copy_from_slice(&reference::rms_norm(heads, &scale(&gamma, add_one), EPS.into()));
    }
    Case {
        kernel: "rms_norm",
        shape: format!("{heads} heads of {columns} in {ROWS} rows of {stride}"),
        dispatches: vec![norm.dispatch()],
        batch: tokens(ROWS),
        contents: Contents::from([(Slot::Weight(0), bytes(&gamma)), (Slot::Scratch(0), bytes(&values))]),
        expected: vec![(Slot::Scratch(0), expected)],
        token_rows: vec![(Slot::Scratch(0), stride)],
        tolerance: TOLERANCE,
    }
}

/// What rows are multiplied by.
fn scale(gamma: &[f32], add_one: bool) -> Vec<f64> {
    widen(gamma).iter().map(|g| g + f64::from(u8::from(add_one))).collect()
}
