//! Cases of `layer_norm`.

use super::random::{Random, bytes, widen};
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::Reduce;
use crate::kernels::layer_norm::LayerNorm;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 2, 3, 31, 63, 64, 65, 130, 384, 1000] {
            for (rows, center) in [(1, 0.0), (7, 0.5), (33, -3.0)] {
                cases.push(case(random, reduce, rows, columns, center));
            }
        }
        // more rows than workgroups in one dimension
        cases.push(case(random, reduce, 65_600, 3, 0.0));
    }
    cases
}

fn case(random: &mut Random, reduce: Reduce, rows: usize, columns: usize, center: f32) -> Case {
    // neighbours differ by more than their size, so that no row of few columns has a variance of nearly nothing
    let mut stream = random.values(rows * columns, center, 0.8);
    for (i, x) in stream.iter_mut().enumerate() {
        *x += if (i % columns).is_multiple_of(2) { 1.0 } else { -1.0 };
    }
    let gamma = random.values(columns, 1.0, 0.5);
    let beta = random.values(columns, 0.0, 0.5);
    let eps = 1e-5f32;
    let norm = LayerNorm { reduce, gamma: Slot::Weight(0), beta: Slot::Weight(1), columns, eps };
    let expected = reference::layer_norm(&widen(&stream), &widen(&gamma), &widen(&beta), f64::from(eps));
    Case {
        kernel: "layer_norm",
        shape: format!("{rows} rows of {columns} around {center}"),
        dispatches: vec![norm.dispatch()],
        batch: tokens(rows),
        contents: Contents::from([
            (Slot::Weight(0), bytes(&gamma)),
            (Slot::Weight(1), bytes(&beta)),
            (Slot::Stream, bytes(&stream)),
        ]),
        expected: vec![(Slot::Stream, expected)],
        token_rows: vec![(Slot::Stream, columns)],
        tolerance: TOLERANCE,
    }
}
