//! Cases of `softmax`.

use super::random::{Random, bytes, widen};
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::Reduce;
use crate::kernels::softmax::Softmax;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 2, 3, 63, 64, 65, 130, 1000] {
            for (rows, center, spread) in [(1, 0.0, 1.0), (7, 0.0, 30.0), (33, 1e4, 3.0)] {
                cases.push(case(random, reduce, rows, columns, center, spread));
            }
        }
    }
    cases
}

fn case(random: &mut Random, reduce: Reduce, rows: usize, columns: usize, center: f32, spread: f32) -> Case {
    let values = random.values(rows * columns, center, spread);
    let softmax = Softmax {
        reduce,
        values: Slot::Scratch(0),
        rows: Extent::new(1, Dim::Tokens),
        columns: Extent::new(columns as u64, Dim::One),
    };
    Case {
        kernel: "softmax",
        shape: format!("{rows} rows of {columns}, {center} ± {spread}"),
        dispatches: vec![softmax.dispatch()],
        batch: tokens(rows),
        contents: Contents::from([(Slot::Scratch(0), bytes(&values))]),
        expected: vec![(Slot::Scratch(0), reference::softmax(&widen(&values), columns))],
        token_rows: vec![(Slot::Scratch(0), columns)],
        tolerance: TOLERANCE,
    }
}
